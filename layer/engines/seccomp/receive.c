/* Datagrams whose sender the program wants to know: it is told the one it sent to, not the relay. Rules:
   sockets in the table of names are ours, and those on which a thread waits, for another may send while it
   does; such a call waits here, away from the door, and is looked after in slices, for the kernel tells us
   of no signal that has come for the thread meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "sockets.h"

#define SLICE 20 /* ms between two looks at the thread's signals */

/* What one recvmsg took. */
struct got {
    struct pm_address from;
    char control[PM_CONTROL] __attribute__((aligned(8)));
    size_t control_size;
    int flags;
};

atomic_int pm_waiting;

static unsigned long long field(const char *text, const char *name, int base)
{
    const char *found = strstr(text, name);

    return found ? strtoull(found + strlen(name), NULL, base) : 0;
}

/* What an interrupted call is to return; 0: no signal has come. A signal for the whole process may be
   another thread's to handle, and only the kernel could start the call again safely then. */
int pm_interrupted(pid_t thread, int has_limit)
{
    char place[32], text[2048];
    unsigned long long blocked, shared, own;
    ssize_t size;
    int fd;

    snprintf(place, sizeof place, "/proc/%d/status", thread);
    fd = open(place, O_RDONLY | O_CLOEXEC);
    size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return -ESRCH;
    text[size] = 0;
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

/* Until there is something to receive. 0 or -errno. until: in ms, 0 for ever. */
static int await(struct worker *worker, int fd, long long until)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    for (;;) {
        long long left = until ? until - pm_now() : SLICE;
        int code = poll(&ready, 1, left < 0 ? 0 : left < SLICE ? (int)left : SLICE);

        if (code > 0)
            return 0;
        if (until && pm_now() >= until)
            return -EAGAIN;
        if (worker->pump->stopping)
            return -EIO;
        if (!pm_job_valid(&worker->job))
            return -ESRCH;
        code = pm_interrupted((pid_t)worker->request.pid, until != 0);
        if (code)
            return code;
    }
}

static long long receive(const struct taken *taken, const struct message *message, char *data, struct got *got, int flags)
{
    size_t control = message->header.msg_control ? message->header.msg_controllen : 0;
    struct iovec all = {data, message->size < PM_DATAGRAM ? message->size : PM_DATAGRAM};
    struct msghdr header = {got->from.bytes, PM_ADDRESS_SIZE, &all, 1, got->control,
                            control < PM_CONTROL ? control : PM_CONTROL, 0};
    ssize_t size = recvmsg(taken->fd, &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

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

/* One message; wait: may it wait. Bytes received, or -errno. */
static long long receive_one(struct worker *worker, const struct taken *taken, const struct message *message,
                             int flags, long long until, int wait)
{
    char *data = malloc(PM_DATAGRAM);
    struct got *got = calloc(1, sizeof *got);
    long long size = data && got ? -EAGAIN : -ENOMEM;

    while (data && got && (size = receive(taken, message, data, got, flags)) == -EAGAIN && wait) {
        size = await(worker, taken->fd, until);
        if (size < 0)
            break;
    }
    if (size >= 0) {
        translate(worker, taken, got);
        size = give(worker, message, data, size, got);
    }
    free(got);
    free(data);
    return size;
}

static long long receive_many(struct worker *worker, const struct taken *taken, struct message *message,
                              long long until, int wait)
{
    unsigned int count = (unsigned int)arg(worker, 2), done = 0;
    int flags = (int)arg(worker, 3);
    long long size = 0;

    for (; done < count && done < PM_IOV; done++) {
        uint64_t place = arg(worker, 1) + done * sizeof(struct mmsghdr);
        unsigned int length;

        size = pm_message_read(worker, place, message);
        if (size == 0)
            size = receive_one(worker, taken, message, flags & ~MSG_WAITFORONE, until,
                               wait && !(done && flags & MSG_WAITFORONE));
        if (size < 0)
            break;
        length = (unsigned int)size;
        if (pm_give(worker, place + offsetof(struct mmsghdr, msg_len), &length, sizeof length))
            break;
    }
    return done ? done : size;
}

static int flags_of(const struct worker *worker)
{
    return (int)arg(worker, worker->job.caught->op == OP_RECVMSG ? 2 : 3);
}

static int may_wait(const struct taken *taken, int flags)
{
    return taken->blocking && !(flags & MSG_DONTWAIT) && pm_waiting < MOST_WAITING;
}

static long long receive_all(struct worker *worker, const struct taken *taken, struct message *message)
{
    enum op op = worker->job.caught->op;
    int flags = flags_of(worker), wait = may_wait(taken, flags);
    long long limit = pm_limit(taken->fd, SO_RCVTIMEO), until = limit ? pm_now() + limit : 0;
    struct timespec given;

    if (op == OP_RECVMMSG && arg(worker, 4)) {
        if (pm_read((pid_t)worker->request.pid, arg(worker, 4), &given, sizeof given))
            return -EFAULT;
        limit = given.tv_sec * 1000LL + given.tv_nsec / 1000000;
        until = pm_now() + limit;
    }
    if (op == OP_RECVMMSG)
        return receive_many(worker, taken, message, until, wait);
    return receive_one(worker, taken, message, flags, until, wait);
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

static int is_ours(struct worker *worker, const struct taken *taken)
{
    if (taken->transport != PM_UDP)
        return 0;
    return may_wait(taken, flags_of(worker)) || pm_names_talks(worker->pump->names, taken->socket);
}

void pm_serve_receive(struct worker *worker)
{
    int idle = flags_of(worker) & MSG_DONTWAIT && !pm_names_any(worker->pump->names);
    struct message *message = idle ? NULL : malloc(sizeof *message);
    struct taken taken;

    if (!message || !wants_sender(worker, message) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        free(message);
        return;
    }
    if (is_ours(worker, &taken)) {
        worker->pump->counters[PM_CARRIED]++;
        pm_leave_door(worker);
        pm_waiting++;
        pm_job_return(&worker->job, receive_all(worker, &taken, message));
        pm_waiting--;
    } else {
        pm_leave_alone(worker);
    }
    close(taken.fd);
    free(message);
}
