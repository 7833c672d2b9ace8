/* Accepting from a listener that a feature has bound: the program is told the client, not the door its connection comes
   through. Rules: the listener's own modes are never changed, others may be waiting in the kernel; a thread
   accepts when there is something to accept, and a call that has to wait for it is parked; who cannot take a
   descriptor gets no connection; the listener is let go of before the answer, as the program may close it then. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "parked.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
#define MOMENT 1000000 /* ns that a thread may hang in an accept, because another was faster */

static int flags_of(const struct worker *worker)
{
    return worker->job.caught->op == OP_ACCEPT4 ? (int)arg(worker, 3) : 0;
}

static int has_arrivals(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, 0) > 0;
}

/* Has the program as many files as it may? A connection that it cannot be given would be lost. Before Linux 6.2 the
   folder has no size, and it is lost. */
static int is_full(pid_t pid)
{
    struct rlimit limit;
    struct stat folder;
    char place[32];

    snprintf(place, sizeof place, "/proc/%d/fd", pid);
    return prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0 && stat(place, &folder) == 0 && folder.st_size > 0 &&
           (rlim_t)folder.st_size >= limit.rlim_cur;
}

/* Its descriptor, or -errno. */
static long long accept_one(const struct taken *taken, int flags, struct pm_address *peer)
{
    socklen_t size = sizeof peer->bytes;
    int fd = accept4(taken->fd, (void *)peer->bytes, &size, flags | SOCK_CLOEXEC);

    if (fd < 0)
        return -errno;
    peer->size = (unsigned char)size;
    return fd;
}

/* The same where accepting waits and another may take what has arrived: signals end it soon, the first of which may be
   too early. That is seldom; to leave the door for it would cost every accept a third more. */
static long long accept_soon(const struct taken *taken, int flags, struct pm_address *peer)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = WAKE};
    struct itimerspec often = {{0, MOMENT}, {0, MOMENT}};
    long long fd = -EINTR;
    timer_t timer;

    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        return -ENOBUFS;
    if (timer_settime(timer, 0, &often, NULL) == 0)
        fd = accept_one(taken, flags, peer);
    timer_delete(timer);
    return fd == -EINTR ? -EAGAIN : fd;
}

/* A connection that is there. Its descriptor, or -errno; EAGAIN where there is none. */
static long long accept_now(struct worker *worker, const struct taken *taken, struct pm_address *peer)
{
    int flags = flags_of(worker);
    long long fd = -EAGAIN;

    if (is_full((pid_t)worker->request.pid))
        return -EMFILE;
    if (!taken->blocking)
        return accept_one(taken, flags, peer);
    if (!has_arrivals(taken->fd))
        return -EAGAIN;
    pthread_mutex_lock(&worker->pump->accepts);
    if (has_arrivals(taken->fd) && pm_job_valid(&worker->job))
        fd = accept_soon(taken, flags, peer);
    pthread_mutex_unlock(&worker->pump->accepts);
    return fd;
}

/* The answer; accepted: a descriptor or -errno. What the program cannot be given is closed, and its client sees that. */
static void answer(struct worker *worker, const struct taken *taken, long long accepted, struct pm_address *peer)
{
    long long failed = accepted < 0 ? accepted : 0;

    if (!failed) {
        pm_guests_find(worker->pump->guests, peer, taken->domain, 1, peer);
        failed = pm_give_address(worker, arg(worker, 1), arg(worker, 2), peer);
    }
    if (failed)
        pm_job_return(&worker->job, failed);
    else
        pm_job_hand_over(&worker->job, (int)accepted, flags_of(worker) & SOCK_CLOEXEC);
    if (accepted >= 0)
        close((int)accepted);
}

/* Something has arrived, or the wait is given up. */
static void arrived(struct worker *worker, struct parked *call)
{
    struct taken taken = call->taken;
    long long accepted = -call->code;
    struct pm_address peer;
    int waits;

    if (!call->code)
        accepted = accept_now(worker, &taken, &peer);
    waits = !call->code && accepted == -EAGAIN; /* another took it */
    if (waits && pm_park_receiving(worker->pump, call))
        return;
    pm_parked_end(call);
    pm_park_next(worker->pump, taken.socket);
    if (waits)
        pm_leave_alone(worker);
    else
        answer(worker, &taken, accepted, &peer);
}

/* 0: there are as many as may be. */
static int park(struct worker *worker, const struct taken *taken)
{
    struct parked *call = pm_parked_new(worker, taken);
    long long limit = pm_limit(taken->fd, SO_RCVTIMEO);

    if (!call)
        return 0;
    call->until = limit ? pm_now() + limit : 0;
    call->late = EAGAIN;
    call->interruptible = call->accepts = 1;
    call->go_on = arrived;
    if (pm_park_receiving(worker->pump, call))
        return 1;
    pm_parked_drop(call);
    return 0;
}

static void serve(struct worker *worker, const struct taken *taken)
{
    struct pm_address peer;
    long long accepted = accept_now(worker, taken, &peer);
    int waits = accepted == -EAGAIN && taken->blocking;

    if (waits && park(worker, taken))
        return;
    close(taken->fd);
    if (waits)
        pm_leave_alone(worker);
    else
        answer(worker, taken, accepted, &peer);
}

void pm_serve_accept(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct pm_name name;
    struct taken taken;

    if (!pm_names_any(pump->bound) || flags_of(worker) & ~(SOCK_CLOEXEC | SOCK_NONBLOCK) ||
        !pm_take_named(worker, &taken)) {
        pm_leave_alone(worker);
    } else if (!pm_names_find(pump->bound, taken.socket, &name)) {
        close(taken.fd);
        pm_leave_alone(worker);
    } else {
        pump->counters[PM_CARRIED]++;
        taken.blocking = pm_waits(taken.fd);
        serve(worker, &taken);
    }
}
