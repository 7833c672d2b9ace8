/* Signals as they come, with their origin, written to a pipe: Python's own handlers do not tell whether
   the terminal sent it (to the whole group, so to the program too) or somebody meant us alone. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

static int pipe_end = -1;
static unsigned long long taken;
static struct sigaction before[65];

static void came(int number, siginfo_t *info, void *context)
{
    pm_signal record = {number, info->si_code <= 0, info->si_code <= 0 ? info->si_pid : 0};
    int kept = errno;
    ssize_t done = write(pipe_end, &record, sizeof record);

    (void)context;
    (void)done; /* the pipe is full of unread signals: one more of them would change nothing */
    errno = kept;
}

/* numbers: bit n-1 for signal n. The write end must not block. */
int pm_signals_take(int write_end, unsigned long long numbers)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART};

    if (taken)
        return EBUSY;
    action.sa_sigaction = came;
    pipe_end = write_end;
    for (int number = 1; number <= 64; number++) {
        if (!(numbers & (1ull << (number - 1))))
            continue;
        if (sigaction(number, &action, &before[number]) < 0)
            return errno;
        taken |= 1ull << (number - 1);
    }
    return 0;
}

void pm_signals_give_back(void)
{
    for (int number = 1; number <= 64; number++)
        if (taken & (1ull << (number - 1)))
            sigaction(number, &before[number], NULL);
    taken = 0;
    pipe_end = -1;
}
