/* Starting the program under the filter: fork, filter, hand the listener over, exec. Rules: after fork the
   child does only what is async-signal-safe; it tells by a pipe what failed; the parent takes the listener
   with pidfd_getfd, so that the child needs no call a filter might catch. Everything is close-on-exec. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parts.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#define PROBE_PATH "/pymirror/probe"
#define PROBE_LIMIT 5000 /* ms */

struct told {
    int listener; /* -1: failed */
    int error;
};

struct pipes {
    int told[2], go[2];
};

static void close_pipes(struct pipes *pipes)
{
    close(pipes->told[0]);
    close(pipes->told[1]);
    close(pipes->go[0]);
    close(pipes->go[1]);
}

static int open_pipes(struct pipes *pipes)
{
    *pipes = (struct pipes){{-1, -1}, {-1, -1}};
    if (pipe2(pipes->told, O_CLOEXEC) < 0 || pipe2(pipes->go, O_CLOEXEC) < 0) {
        int failed = errno;

        close_pipes(pipes);
        return failed;
    }
    return 0;
}

static void say(const struct pipes *pipes, int listener, int error)
{
    struct told told = {listener, error};

    if (write(pipes->told[1], &told, sizeof told) != (ssize_t)sizeof told)
        _exit(125);
}

/* The dispositions of pymirror's own start, not those Python has set since. */
static void reset_signals(unsigned long long ignored)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action = {.sa_handler = SIG_DFL};

        if (number <= 64 && ignored & (1ull << (number - 1)))
            action.sa_handler = SIG_IGN;
        sigaction(number, &action, NULL);
    }
}

/* As execve; the filter knows it by what the kernel does not look at in a descriptor's register. */
static void start(const char *path, char **argv, char **envp)
{
    syscall(SYS_execveat, (long)PM_LAUNCH << 32 | (uint32_t)AT_FDCWD, path, argv, envp, 0);
}

static void run(const struct pipes *pipes, const pm_order *order)
{
    start(order->path, order->argv, order->envp);
    if (errno == ENOEXEC) /* a script without its #! line: as execvp does */
        start("/bin/sh", order->shell_argv, order->envp);
    say(pipes, -1, errno);
    _exit(127);
}

static void probe(void)
{
    _exit(open(PROBE_PATH, O_RDONLY | O_CLOEXEC) >= 0 ? 0 : 1);
}

static void child(const struct pipes *pipes, const pm_order *order, const sigset_t *mask)
{
    char go;
    int listener;

    close(pipes->told[0]);
    close(pipes->go[1]); /* or the end of pymirror would go unnoticed */
    reset_signals(order->ignored);
    sigprocmask(SIG_SETMASK, mask, NULL);
    listener = pm_filter_install(order->calls);
    if (listener < 0) {
        say(pipes, -1, -listener);
        _exit(125);
    }
    say(pipes, listener, 0);
    if (read(pipes->go[0], &go, 1) != 1)
        _exit(125);
    if (order->path)
        run(pipes, order);
    probe();
}

static int take_listener(pid_t pid, int number, int *listener)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int failed = 0;

    if (pidfd < 0)
        return errno;
    *listener = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0); /* close-on-exec by itself */
    if (*listener < 0)
        failed = errno;
    close(pidfd);
    return failed;
}

static void discard(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int hear(const struct pipes *pipes, struct told *told)
{
    ssize_t size;

    do
        size = read(pipes->told[0], told, sizeof *told);
    while (size < 0 && errno == EINTR);
    return size == (ssize_t)sizeof *told;
}

static pid_t fork_child(const struct pipes *pipes, const pm_order *order)
{
    sigset_t all, before;
    pid_t pid;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours may run in the child */
    pid = fork();
    if (pid == 0)
        child(pipes, order, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* A child under the filter that waits for go; order->pid and ->listener are set. */
static int prepare(pm_order *order, struct pipes *pipes)
{
    struct told told;
    int failed;

    order->stage = "fork";
    order->pid = fork_child(pipes, order);
    if (order->pid < 0)
        return errno;
    close(pipes->told[1]);
    close(pipes->go[0]);
    pipes->told[1] = pipes->go[0] = -1;
    order->stage = "filter";
    failed = !hear(pipes, &told) ? EPIPE : told.error;
    if (!failed) {
        order->stage = "pidfd_getfd";
        failed = take_listener(order->pid, told.listener, &order->listener);
    }
    if (failed)
        discard(order->pid);
    return failed;
}

static int let_go(struct pipes *pipes)
{
    return write(pipes->go[1], "", 1) == 1 ? 0 : EPIPE;
}

/* 0: the program runs. Else errno, and order->stage says at what: "exec" is the program's own fault. */
int pm_spawn(pm_order *order)
{
    struct pipes pipes;
    struct told told;
    int failed;

    order->stage = "pipe";
    failed = open_pipes(&pipes);
    if (failed)
        return failed;
    failed = prepare(order, &pipes);
    if (!failed) {
        order->stage = "exec";
        failed = let_go(&pipes);
        if (!failed && hear(&pipes, &told))
            failed = told.error;
        if (failed) {
            close(order->listener);
            discard(order->pid);
        }
    }
    close_pipes(&pipes);
    return failed;
}

static int probe_addfd(int listener, const struct seccomp_notif *request)
{
    struct seccomp_notif_addfd give = {.id = request->id, .flags = SECCOMP_ADDFD_FLAG_SEND, .newfd_flags = O_CLOEXEC};
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof how);
    int failed = 0;

    if (fd < 0)
        return errno;
    give.srcfd = (uint32_t)fd;
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give) < 0)
        failed = errno;
    close(fd);
    return failed;
}

/* Answer the probing child's one call as the pump would. */
static int probe_call(int listener, const char **stage)
{
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    struct seccomp_notif request = {0};
    char path[sizeof PROBE_PATH];
    int size;

    *stage = "notification";
    if (poll(&waiting, 1, PROBE_LIMIT) <= 0)
        return ETIMEDOUT;
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
        return errno;
    *stage = "process_vm_readv";
    size = pm_read_string((pid_t)request.pid, request.data.args[pm_caught(request.data.nr)->path], path, sizeof path);
    if (size < 0 || strcmp(path, PROBE_PATH) != 0)
        return size < 0 ? -size : EFAULT;
    *stage = "addfd";
    return probe_addfd(listener, &request);
}

/* Everything the engine needs, tried on a child of our own. 0, or errno and the stage. */
int pm_probe(const char **stage)
{
    pm_order order = {.calls = PM_CALL_OPEN};
    struct pipes pipes;
    int failed = open_pipes(&pipes), status = 0;

    *stage = "pipe";
    if (failed)
        return failed;
    failed = prepare(&order, &pipes);
    *stage = order.stage;
    if (!failed) {
        failed = let_go(&pipes);
        if (!failed)
            failed = probe_call(order.listener, stage);
        if (failed)
            discard(order.pid);
        else if (waitpid(order.pid, &status, 0) == order.pid && status != 0)
            failed = EPROTO;
        close(order.listener);
    }
    close_pipes(&pipes);
    return failed;
}
