/* chdir into a tree. Nobody can change another process's folder, and a notification is answered, not replaced: so the
   program's own thread is made to call fchdir, by ptrace, for this one call. Rules: it is held from before it is
   answered until its registers are its own again, so no instruction of the program's runs in between; all its signals
   wait meanwhile, but SIGSTOP, which is passed on; it may die at any moment; who holds it is one thread of the pump,
   and the end of pymirror's own child is left to Python, whose wait it is. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "parts.h"

/* EXITKILL: with registers that are not its own it must not run on when pymirror is killed. */
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define ALL_SIGNALS (~(uint64_t)0)
#define WAITS (WEXITED | WSTOPPED | __WALL | __WNOTHREAD)
#define INTERRUPTIONS 100 /* of one fchdir that asks the tree; each takes a SIGSTOP or SIGCONT */
#define PATIENCE 10 /* moments */

static const struct timespec MOMENT = {0, 1000000};

struct held {
    pid_t thread;
    int own;      /* it is the first one of our own child */
    int status;   /* of its last stop */
    int signal;   /* which ended its wait, before Linux 5.19: it comes when it is let go, without its value and sender */
    uint64_t end; /* of its system call's instruction */
    uint64_t mask;
    struct user_regs_struct registers;
};

#if defined(__x86_64__)
static void set_call(struct user_regs_struct *registers, uint64_t end, long number, int argument)
{
    registers->rip = end - 2;
    registers->rax = (uint64_t)number;
    registers->rdi = (uint64_t)argument;
    registers->orig_rax = (uint64_t)-1; /* no system call is on its way, so none is restarted */
}

static void set_result(struct user_regs_struct *registers, uint64_t end, long result)
{
    registers->rip = end;
    registers->rax = (uint64_t)result;
    registers->orig_rax = (uint64_t)-1;
}

static long result_of(const struct user_regs_struct *registers)
{
    return (long)registers->rax;
}
#else /* arm64 */
static void set_call(struct user_regs_struct *registers, uint64_t end, long number, int argument)
{
    registers->pc = end - 4;
    registers->regs[8] = (uint64_t)number;
    registers->regs[0] = (uint64_t)argument;
}

static void set_result(struct user_regs_struct *registers, uint64_t end, long result)
{
    registers->pc = end;
    registers->regs[0] = (uint64_t)result;
}

static long result_of(const struct user_regs_struct *registers)
{
    return (long)registers->regs[0];
}
#endif

/* Who waits for a child of this process waits for what its threads trace, too, and would take a stop of ours for one of
   the child's own. So while the child itself is held, Python does not look, and is told to afterwards. */
static pthread_mutex_t child_held = PTHREAD_MUTEX_INITIALIZER;
static atomic_int looked;

/* As waitpid with WNOHANG and WUNTRACED, or -errno. 0, too, while the child is held: SIGCHLD comes afterwards. */
int pm_child_wait(int pid, int *status)
{
    int found;

    looked = 1;
    if (pthread_mutex_trylock(&child_held))
        return 0;
    looked = 0;
    found = waitpid(pid, status, WNOHANG | WUNTRACED);
    found = found < 0 ? -errno : found;
    pthread_mutex_unlock(&child_held);
    return found;
}

/* Is it the first thread of a child of this process? */
static int is_own_child(pid_t thread)
{
    int process = 0, parent = 0;
    char text[256];
    FILE *file;

    snprintf(text, sizeof text, "/proc/%d/status", thread);
    file = fopen(text, "re");
    while (file && !parent && fgets(text, sizeof text, file)) {
        sscanf(text, "Tgid: %d", &process);
        sscanf(text, "PPid: %d", &parent);
    }
    if (file)
        fclose(file);
    return process == thread && parent == getpid();
}

static int ptraced(int request, const struct held *held, uint64_t address, const void *data)
{
    return ptrace(request, held->thread, address, data) == 0;
}

static int registers(int request, const struct held *held, struct user_regs_struct *values)
{
    struct iovec place = {values, sizeof *values};

    return ptraced(request, held, NT_PRSTATUS, &place);
}

/* What this thread traces comes to it: the one that it holds, or the end of our own child, which Python has not taken
   yet. Not asked for by its number: who waits so is not woken when another thread's exec takes the number over. */
static int comes(const struct held *held, siginfo_t *came)
{
    int failed;

    for (;;) {
        failed = waitid(P_ALL, 0, came, WAITS | WNOWAIT);
        if (!failed && came->si_pid != held->thread) {
            nanosleep(&MOMENT, NULL);
            failed = waitid(P_PID, (id_t)held->thread, came, WAITS | WNOWAIT | WNOHANG);
        }
        if (!failed && came->si_pid == held->thread)
            return 1;
        if (failed && errno != EINTR)
            return 0;
    }
}

/* Wait for it to stop; 0: it has ended. A stop is looked at and left, the end is taken from the tracer's list, where it
   would keep the true parent from seeing it, but not of our own child: that would be its parent's wait. */
static int stopped(struct held *held)
{
    siginfo_t came = {0};
    int found = comes(held, &came);

    held->status = came.si_status;
    if (found && came.si_code == CLD_TRAPPED)
        return 1;
    if (found && !held->own)
        while (waitid(P_PID, (id_t)held->thread, &came, WAITS & ~WSTOPPED) && errno == EINTR)
            ;
    return 0;
}

/* On to the next stop of a system call, its beginning or its end; 0: it has ended. */
static int runs_on(struct held *held)
{
    long passed = 0;

    for (;;) {
        ptraced(PTRACE_SYSCALL, held, 0, (void *)passed); /* fails when it was killed, and it ends then */
        if (!stopped(held))
            return 0;
        if (held->status == SYSCALL_STOP)
            return 1;
        passed = held->status == SIGSTOP ? SIGSTOP : 0; /* else it is PTRACE_EVENT_STOP: its group is stopped, or goes on */
    }
}

/* A system call of the thread's own, in place of the one that it made. 0: it has ended. */
static int calls(struct held *held, long number, int argument, long *result)
{
    struct user_regs_struct values = held->registers;

    set_call(&values, held->end, number, argument);
    if (!registers(PTRACE_SETREGSET, held, &values) || !runs_on(held) || !runs_on(held) ||
        !registers(PTRACE_GETREGSET, held, &values))
        return 0;
    *result = result_of(&values);
    return 1;
}

static int interrupted(long result) /* as the kernel says it to itself */
{
    return result == -EINTR || (result <= -512 && result >= -516);
}

/* fd: as the thread has it, or -errno: why it has none. 0: it has ended. */
static int goes(struct held *held, int fd, long *result)
{
    long closed;

    *result = fd < 0 ? fd : -EINTR;
    for (int i = 0; i < INTERRUPTIONS && fd >= 0 && interrupted(*result); i++)
        if (!calls(held, SYS_fchdir, fd, result))
            return 0;
    return fd < 0 || calls(held, SYS_close, fd, &closed);
}

static void changes_folder(struct held *held, int fd)
{
    long result;

    if (!registers(PTRACE_GETREGSET, held, &held->registers) ||
        !ptraced(PTRACE_GETSIGMASK, held, sizeof held->mask, &held->mask) ||
        !ptraced(PTRACE_SETSIGMASK, held, sizeof held->mask, &(uint64_t){ALL_SIGNALS}) || !goes(held, fd, &result))
        return;
    set_result(&held->registers, held->end, result);
    registers(PTRACE_SETREGSET, held, &held->registers);
    ptraced(PTRACE_SETSIGMASK, held, sizeof held->mask, &held->mask);
}

/* The thread's number of that descriptor from now on, or -errno. */
static int given(const struct pm_job *job, int fd)
{
    struct seccomp_notif_addfd give = {.id = job->request->id, .srcfd = (uint32_t)fd, .newfd_flags = O_CLOEXEC};
    int number;

    do
        number = ioctl(job->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give);
    while (number < 0 && errno == EINTR);
    return number < 0 ? -errno : number;
}

/* It is ours to hold: answer it, so that it comes to its stop; what it returns is set there. Before Linux 5.19 the
   interruption ends its wait, so that the answer comes too late, and it stops all the same. Never the answer first: it
   would be on its way to the next call, which waits for us, too. */
static void hold(const struct pm_job *job, struct held *held, int fd)
{
    int number = pm_job_valid(job) ? given(job, fd) : -ENOENT; /* valid: it is the thread that called */

    ptraced(PTRACE_INTERRUPT, held, 0, NULL);
    pm_job_return(job, 0);
    if (!stopped(held))
        return;
    held->signal = held->status >> 8 ? 0 : held->status;
    if (number != -ENOENT) /* that nobody waits for it any more */
        changes_folder(held, number);
    if (!ptraced(PTRACE_DETACH, held, 0, (void *)(long)held->signal))
        stopped(held);
}

/* Refused where a debugger has it. Before Linux 5.19 that may be another thread of the pump, which holds it for a call
   that was interrupted and is made again. */
static int seized(const struct pm_job *job, const struct held *held)
{
    for (int i = 0; i < PATIENCE; i++) {
        if (ptraced(PTRACE_SEIZE, held, 0, (void *)OPTIONS))
            return 1;
        if (errno != EPERM || !pm_job_valid(job))
            return 0;
        nanosleep(&MOMENT, NULL);
    }
    return 0;
}

static void go_to(const struct pm_job *job, int fd)
{
    struct held held = {.thread = (pid_t)job->request->pid, .end = job->request->data.instruction_pointer};

    held.own = is_own_child(held.thread);
    if (held.own)
        pthread_mutex_lock(&child_held);
    if (seized(job, &held))
        hold(job, &held, fd);
    else
        pm_job_return(job, -EPERM);
    if (held.own) {
        pthread_mutex_unlock(&child_held);
        if (atomic_exchange(&looked, 0))
            kill(getpid(), SIGCHLD);
    }
}

/* A folder may be one to go through and not to read, but what is handed over is open for reading. On this machine it is
   found with the caller's rights then, and opened with ours; fchdir asks whether the caller may search it. */
static int open_folder(const struct pm_job *job)
{
    const uint64_t flags = O_RDONLY | O_DIRECTORY;
    int fd = pm_job_put_on(job), found;
    char place[32];

    if (fd < 0)
        return fd;
    fd = pm_job_open_below(job, job->found.root, job->found.value, flags);
    found = fd == -EACCES ? pm_job_open_below(job, job->found.root, job->found.value, O_PATH | O_DIRECTORY) : -1;
    pm_job_take_off(job);
    if (found < 0)
        return fd;
    snprintf(place, sizeof place, "/proc/self/fd/%d", found);
    fd = open(place, (int)flags | O_CLOEXEC);
    fd = fd < 0 ? -errno : fd;
    close(found);
    return fd;
}

void pm_job_carry_chdir(const struct pm_job *job)
{
    int fd = open_folder(job);

    if (fd < 0) {
        pm_job_return(job, fd);
        return;
    }
    go_to(job, fd);
    close(fd);
}
