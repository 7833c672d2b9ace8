/* Datagrams whose sender the program wants to know: it is told the one it sent to, not the relay. Rules:
   sockets in the table of names are ours, and those on which a call may wait, for another may send while it
   does; such a call waits parked, and with more than may be so in the kernel, which tells the relay's address. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "parked.h"

#define STATUS 8192

/* What one recvmsg took. */
struct got {
    struct pm_address from;
    char control[PM_CONTROL] __attribute__((aligned(8)));
    size_t control_size;
    int flags;
};

static unsigned long long field(const char *text, const char *name, int base)
{
    const char *found = strstr(text, name);

    return found ? strtoull(found + strlen(name), NULL, base) : 0;
}

/* The last part of a thread's status: what comes before may be as long as its groups are many. Its length, or -1. */
static ssize_t read_status(pid_t thread, char *text)
{
    char place[32];
    ssize_t size = 0, more;
    int fd;

    snprintf(place, sizeof place, "/proc/%d/status", thread);
    fd = open(place, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    while ((more = read(fd, text + size, (size_t)(STATUS - 1 - size))) > 0) {
        size += more;
        if (size < STATUS - 1)
            continue;
        size = STATUS / 2;
        memmove(text, text + STATUS - 1 - size, (size_t)size);
    }
    close(fd);
    text[size] = 0;
    return size;
}

/* What an interrupted call is to return; 0: no signal has come. A signal for the whole process may be
   another thread's to handle, and only the kernel could start the call again safely then. */
int pm_interrupted(pid_t thread, int has_limit)
{
    char text[STATUS];
    unsigned long long blocked, shared, own;

    if (read_status(thread, text) <= 0)
        return -ESRCH;
    blocked = field(text, "SigBlk:", 16);
    own = field(text, "SigPnd:", 16) & ~blocked;
    shared = field(text, "ShdPnd:", 16) & ~blocked;
    if (own || (shared && field(text, "Threads:", 10) == 1))
        return has_limit ? -EINTR : -RESTART;
    return shared ? -EINTR : 0;
}

long long pm_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* SO_RCVTIMEO or SO_SNDTIMEO in ms, 0: none. */
long long pm_limit(int fd, int option)
{
    struct timeval limit = {0};
    socklen_t size = sizeof limit;

    getsockopt(fd, SOL_SOCKET, option, &limit, &size);
    return limit.tv_sec * 1000LL + (limit.tv_usec + 999) / 1000;
}

/* shutdown() of this side ends each wait: nothing comes, from nobody. */
static int is_shut(const struct taken *taken)
{
    struct pollfd shut = {.fd = taken->fd, .events = POLLRDHUP};

    return poll(&shut, 1, 0) > 0 && shut.revents & POLLRDHUP;
}

static long long receive(const struct taken *taken, const struct message *message, char *data, struct got *got, int flags)
{
    size_t control = message->header.msg_control ? message->header.msg_controllen : 0;
    struct iovec all = {data, message->size < PM_DATAGRAM ? message->size : PM_DATAGRAM};
    struct msghdr header = {got->from.bytes, PM_ADDRESS_SIZE, &all, 1, got->control,
                            control < PM_CONTROL ? control : PM_CONTROL, 0};
    ssize_t size = recvmsg(taken->fd, &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (size < 0 && errno == EAGAIN && taken->blocking && !(flags & MSG_DONTWAIT) && is_shut(taken))
        return 0;
    if (size < 0)
        return -errno;
    got->from.size = (unsigned char)header.msg_namelen;
    got->control_size = header.msg_controllen;
    got->flags = header.msg_flags & ~MSG_CMSG_CLOEXEC;
    return size;
}

/* A datagram that this fits nobody's relay goes to the program with the sender it has. */
static void translate(const struct worker *worker, const struct taken *taken, struct got *got)
{
    struct pm_name name;

    if (pm_names_source(worker->pump->names, taken->socket, &got->from, &name))
        got->from = name.peer;
}

/* Into the msghdr of recvmsg: what the kernel would have written there. */
static int give_header(const struct worker *worker, const struct message *message, const struct got *got)
{
    struct msghdr header = message->header;
    size_t room = header.msg_namelen < got->from.size ? header.msg_namelen : got->from.size;

    if (header.msg_name && pm_give(worker, (uintptr_t)header.msg_name, got->from.bytes, room))
        return -EFAULT;
    if (got->control_size && pm_give(worker, (uintptr_t)header.msg_control, got->control, got->control_size))
        return -EFAULT;
    header.msg_namelen = got->from.size;
    header.msg_controllen = got->control_size;
    header.msg_flags = got->flags;
    return pm_give(worker, message->place, &header, sizeof header) ? -EFAULT : 0;
}

static long long give(const struct worker *worker, const struct message *message, char *data, long long size,
                      const struct got *got)
{
    size_t here = (size_t)size < message->size ? (size_t)size : message->size; /* MSG_TRUNC tells the true size */
    long long failed = pm_message_move(worker, message, data, here < PM_DATAGRAM ? here : PM_DATAGRAM, 1);

    if (failed == 0 && message->place)
        failed = give_header(worker, message, got);
    else if (failed == 0)
        failed = pm_give_address(worker, arg(worker, 4), arg(worker, 5), &got->from);
    return failed ? failed : size;
}

/* One message. Bytes received, or -errno: EAGAIN where there is none. */
static long long receive_one(struct worker *worker, const struct taken *taken, const struct message *message, int flags)
{
    char *data = malloc(PM_DATAGRAM);
    struct got *got = calloc(1, sizeof *got);
    long long size = data && got ? receive(taken, message, data, got, flags) : -ENOMEM;

    if (size >= 0) {
        translate(worker, taken, got);
        size = give(worker, message, data, size, got);
    }
    free(got);
    free(data);
    return size;
}

/* From message `done` on, which counts those that are received. 0, or what there is no more for. */
static long long receive_many(struct worker *worker, const struct taken *taken, struct message *message,
                              unsigned int *done)
{
    unsigned int count = (unsigned int)arg(worker, 2);
    int flags = (int)arg(worker, 3);

    for (; *done < count && *done < PM_IOV; ++*done) {
        uint64_t place = arg(worker, 1) + *done * sizeof(struct mmsghdr);
        long long size = pm_message_read(worker, place, message);
        unsigned int length;

        if (size == 0)
            size = receive_one(worker, taken, message, flags & ~MSG_WAITFORONE);
        length = (unsigned int)size;
        if (size < 0)
            return size;
        if (pm_give(worker, place + offsetof(struct mmsghdr, msg_len), &length, sizeof length))
            return -EFAULT;
    }
    return 0;
}

static int flags_of(const struct worker *worker)
{
    return (int)arg(worker, worker->job.caught->op == OP_RECVMSG ? 2 : 3);
}

/* Is a sender's address wanted, and no error's? */
static int wants_sender(const struct worker *worker, struct message *message)
{
    enum op op = worker->job.caught->op;

    if (flags_of(worker) & MSG_ERRQUEUE)
        return 0;
    if (op == OP_RECVFROM)
        return pm_message_one(message, arg(worker, 1), arg(worker, 2), arg(worker, 4), 0) == 0;
    return pm_message_read(worker, arg(worker, 1), message) == 0 && message->header.msg_name;
}

/* What is there now. What the call returns, or -EAGAIN; done: of recvmmsg. */
static long long receive_now(struct worker *worker, const struct taken *taken, unsigned int *done)
{
    struct message *message = malloc(sizeof *message);
    long long size = message ? -EFAULT : -ENOMEM;

    if (message && worker->job.caught->op == OP_RECVMMSG)
        size = receive_many(worker, taken, message, done);
    else if (message && wants_sender(worker, message))
        size = receive_one(worker, taken, message, flags_of(worker));
    free(message);
    return size;
}

/* May the call wait for more, with so many messages received? */
static int may_wait(const struct worker *worker, const struct taken *taken, unsigned int done)
{
    int flags = flags_of(worker);

    return taken->blocking && !(flags & MSG_DONTWAIT) && !(done && flags & MSG_WAITFORONE);
}

/* ms of the clock when it has waited long enough, 0: never; -EFAULT. */
static long long end_of(const struct worker *worker, const struct taken *taken)
{
    long long limit = pm_limit(taken->fd, SO_RCVTIMEO);
    struct timespec given;

    if (worker->job.caught->op != OP_RECVMMSG || !arg(worker, 4))
        return limit ? pm_now() + limit : 0;
    if (pm_read((pid_t)worker->request.pid, arg(worker, 4), &given, sizeof given))
        return -EFAULT;
    return pm_now() + given.tv_sec * 1000LL + given.tv_nsec / 1000000;
}

/* There is something to receive, or the wait is given up. */
static void received(struct worker *worker, struct parked *call)
{
    long long result;
    int waits;

    if (!call->code && !pm_job_valid(&worker->job))
        call->code = ESRCH; /* what is there is for others */
    result = call->code ? -call->code : receive_now(worker, &call->taken, &call->done);
    waits = result == -EAGAIN && !call->code && may_wait(worker, &call->taken, call->done);
    if (waits && pm_park_receiving(worker->pump, call))
        return; /* another took it */
    if (waits && !call->done)
        pm_leave_alone(worker);
    else
        pm_job_return(&worker->job, call->done ? call->done : result);
    pm_parked_end(call);
}

/* 0: there are as many as may be. */
static int park(struct worker *worker, const struct taken *taken, long long until, unsigned int done)
{
    struct parked *call = pm_parked_new(worker, taken);

    if (!call)
        return 0;
    call->done = done;
    call->until = until;
    call->late = EAGAIN;
    call->interruptible = 1;
    call->go_on = received;
    if (pm_park_receiving(worker->pump, call))
        return 1;
    pm_parked_drop(call);
    return 0;
}

static void serve(struct worker *worker, const struct taken *taken)
{
    unsigned int done = 0;
    long long until = end_of(worker, taken), result = until < 0 ? until : receive_now(worker, taken, &done);
    int waits = result == -EAGAIN && may_wait(worker, taken, done);

    if (waits && park(worker, taken, until, done))
        return;
    if (waits && !done)
        pm_leave_alone(worker);
    else
        pm_job_return(&worker->job, done ? done : result);
    close(taken->fd);
}

/* Is it about a sender's address at all? */
static int concerns(const struct worker *worker)
{
    int idle = flags_of(worker) & MSG_DONTWAIT && !pm_names_any(worker->pump->names);
    struct message *message = idle ? NULL : malloc(sizeof *message);
    int wanted = message && wants_sender(worker, message);

    free(message);
    return wanted;
}

void pm_serve_receive(struct worker *worker)
{
    struct taken taken;

    if (!concerns(worker) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
    } else if (taken.transport == PM_UDP &&
               (may_wait(worker, &taken, 0) || pm_names_talks(worker->pump->names, taken.socket))) {
        worker->pump->counters[PM_CARRIED]++;
        pm_leave_door(worker);
        serve(worker, &taken);
    } else {
        pm_leave_alone(worker);
        close(taken.fd);
    }
}
