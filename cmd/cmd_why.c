#include "cmd/cmd.h"
int cmd_why(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return 0;
}
