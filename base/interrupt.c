#include "base/interrupt.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void block(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(how, &set, NULL);
}

int interrupt_open(void)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd >= 0)
        block(SIG_BLOCK);
    return fd;
}

/* It is left unread, so that all threads see it. */
bool interrupt_came(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&p, 1, 0) == 1;
}

void interrupt_close(int fd)
{
    struct signalfd_siginfo info;

    if (fd < 0)
        return;
    while (read(fd, &info, sizeof info) > 0)
        ;
    close(fd);
    block(SIG_UNBLOCK);
}
