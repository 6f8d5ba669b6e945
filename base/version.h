/* base/version.h: the version that --version and every result carry. */
#ifndef PEOSIM_BASE_VERSION_H
#define PEOSIM_BASE_VERSION_H

#ifndef PEOSIM_VERSION
#define PEOSIM_VERSION "0.1.0"
#endif

#endif
