/* What is sent to an address: datagrams of a socket that is not connected there, and TCP Fast Open. Rules: the program's
   own socket sends them, to the relay of their flow, so that answers arrive at that socket; the first one to
   an address is Python's to decide, which no thread waits for, the others are not; a message without an address
   goes where the socket is connected to. */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "parked.h"

/* A message of sendmmsg and recvmmsg is this long in the program's memory. */
#define STEP sizeof(struct mmsghdr)
#define UNDECIDED LLONG_MIN /* no result of a call */

static int flags_of(const struct worker *worker)
{
    enum op op = worker->job.caught->op;

    return (int)arg(worker, op == OP_SENDMSG ? 2 : 3);
}

/* A datagram of its own, though the program has corked its socket. 0 or -errno. */
static int introduce(const struct taken *taken, const struct pm_address *relay, const struct pm_address *words)
{
    int corked = 0, open = 0, failed;
    socklen_t size = sizeof corked;

    getsockopt(taken->fd, IPPROTO_UDP, UDP_CORK, &corked, &size);
    if (corked)
        setsockopt(taken->fd, IPPROTO_UDP, UDP_CORK, &open, sizeof open);
    failed = sendto(taken->fd, words->bytes, words->size, MSG_NOSIGNAL | MSG_DONTWAIT, (void *)relay->bytes,
                    relay->size) < 0 ? -errno : 0;
    if (corked)
        setsockopt(taken->fd, IPPROTO_UDP, UDP_CORK, &corked, sizeof corked);
    return failed;
}

/* Python's verdict on a new flow becomes its entry. 0 or -errno. */
static int enter(struct worker *worker, struct parked *call)
{
    const struct taken *taken = &call->taken;
    struct pm_name *flow = &call->name;
    struct pm_address words;
    int at = 0, failed = 0;

    if (call->found.verdict == PM_ERRNO)
        return -call->found.code;
    flow->kind = PM_LOCAL_FLOW;
    if (call->found.verdict == PM_ADDRESS) {
        flow->kind = PM_FLOW;
        if (!pm_unpack(&call->found, &at, &flow->relay) || !pm_unpack(&call->found, &at, &words))
            return -EIO;
        failed = words.size ? introduce(taken, &flow->relay, &words) : 0;
    }
    if (!failed)
        pm_names_put(worker->pump->names, flow);
    return failed;
}

/* Threads that share a socket may each have asked: the first verdict counts for all, whose answers come from one relay.
   The others' flows are never begun. */
static int settle(struct worker *worker, struct parked *call)
{
    struct pm_pump *pump = worker->pump;
    struct pm_name other;
    int failed = 0;

    pthread_mutex_lock(&pump->settling);
    if (!pm_names_flow(pump->names, call->taken.socket, &call->name.peer, &other))
        failed = enter(worker, call);
    pthread_mutex_unlock(&pump->settling);
    return failed;
}

/* Where a datagram to flow->peer goes: kind and relay of the flow. 0: Python is to say. */
static int route(const struct worker *worker, const struct taken *taken, struct pm_name *flow)
{
    struct pm_names *names = worker->pump->names;
    struct pm_name other;

    flow->socket = taken->socket;
    if (pm_names_find(names, taken->socket, &other) && other.peer.size == flow->peer.size &&
        memcmp(other.peer.bytes, flow->peer.bytes, other.peer.size) == 0) {
        *flow = other; /* it is connected there: the answers must come from that relay */
        flow->kind = PM_FLOW;
        return 1;
    }
    if (!pm_names_flow(names, taken->socket, &flow->peer, &other))
        return 0;
    *flow = other;
    return 1;
}

static int is_packet_info(const struct cmsghdr *part)
{
    return (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) ||
           (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO);
}

/* Without the source address that the program chose for the true destination: to loopback it is none. */
static size_t without_source(char *control, size_t size)
{
    struct msghdr header = {.msg_control = control, .msg_controllen = size};
    size_t kept = 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(&header), *next; part; part = next) {
        size_t length = CMSG_ALIGN(part->cmsg_len);

        next = CMSG_NXTHDR(&header, part);
        if (is_packet_info(part) || part->cmsg_len < sizeof *part)
            continue;
        if (length > size - (size_t)((char *)part - control))
            length = part->cmsg_len;
        memmove(control + kept, part, length);
        kept += length;
    }
    return kept;
}

static int read_control(const struct worker *worker, const struct message *message, char *control, size_t *size)
{
    *size = message->header.msg_control ? message->header.msg_controllen : 0;
    if (*size > PM_CONTROL)
        return -ENOBUFS;
    if (*size && pm_read((pid_t)worker->request.pid, (uintptr_t)message->header.msg_control, control, *size))
        return -EFAULT;
    return 0;
}

/* to: NULL where the socket is connected; relayed: it leads to a relay. */
static long long transmit(const struct worker *worker, const struct taken *taken, const struct message *message,
                          const struct pm_address *to, int flags, int relayed)
{
    char control[PM_CONTROL] __attribute__((aligned(8)));
    char *data = malloc(message->size + 1);
    struct iovec all = {data, message->size};
    struct msghdr header = {to ? (void *)to->bytes : NULL, to ? to->size : 0, &all, 1, control, 0, 0};
    long long sent = data ? 0 : -ENOMEM;

    if (sent == 0)
        sent = read_control(worker, message, control, &header.msg_controllen);
    if (sent == 0 && relayed)
        header.msg_controllen = without_source(control, header.msg_controllen);
    if (sent == 0)
        sent = pm_message_move(worker, message, data, message->size, 0);
    if (sent == 0) {
        sent = sendmsg(taken->fd, &header, flags | MSG_NOSIGNAL);
        sent = sent < 0 ? -errno : sent;
    }
    free(data);
    return sent;
}

/* Where a message goes. Of a datagram the kernel takes AF_UNSPEC for AF_INET. 0: nowhere. */
static int read_peer(const struct worker *worker, const struct taken *taken, const struct message *message,
                     struct pm_address *peer)
{
    sa_family_t family, four = AF_INET;

    if (!pm_read_address(worker, (uintptr_t)message->header.msg_name, message->header.msg_namelen, peer))
        return 0;
    memcpy(&family, peer->bytes, sizeof family);
    if (taken->transport == PM_UDP && taken->domain == AF_INET && family == AF_UNSPEC)
        memcpy(peer->bytes, &four, sizeof four);
    pm_fit(peer, taken);
    return pm_well_formed(peer, taken->domain);
}

/* One message. Bytes sent, -errno, or UNDECIDED: where to flow->peer is Python's to say. */
static long long send_one(const struct worker *worker, const struct taken *taken, const struct message *message,
                          int flags, struct pm_name *flow)
{
    int relayed;

    *flow = (struct pm_name){0};
    if (!message->header.msg_name)
        return transmit(worker, taken, message, NULL, flags, pm_names_find(worker->pump->names, taken->socket, flow));
    if (!read_peer(worker, taken, message, &flow->peer))
        return -EINVAL;
    if (message->size >= PM_DATAGRAM)
        return -EMSGSIZE;
    if (!route(worker, taken, flow))
        return UNDECIDED;
    relayed = flow->kind == PM_FLOW;
    return transmit(worker, taken, message, relayed ? &flow->relay : &flow->peer, flags, relayed);
}

/* From message `done` on, which counts those that are sent. 0, or what there is no more for. */
static long long send_many(const struct worker *worker, const struct taken *taken, struct message *message,
                           unsigned int *done, struct pm_name *flow)
{
    unsigned int count = (unsigned int)arg(worker, 2);

    for (; *done < count && *done < PM_IOV; ++*done) {
        uint64_t place = arg(worker, 1) + *done * STEP;
        long long sent = pm_message_read(worker, place, message);
        unsigned int size;

        if (sent == 0)
            sent = send_one(worker, taken, message, flags_of(worker), flow);
        if (sent < 0)
            return sent;
        size = (unsigned int)sent;
        if (pm_give(worker, place + offsetof(struct mmsghdr, msg_len), &size, sizeof size))
            return -EFAULT;
    }
    return 0;
}

/* Has a message an address, and which is the first? Where none has, all is for where the socket is connected to: the
   kernel's. */
static int addressed(const struct worker *worker, struct message *message)
{
    unsigned int count = worker->job.caught->op == OP_SENDMMSG ? (unsigned int)arg(worker, 2) : 1;

    if (worker->job.caught->op == OP_SENDTO)
        return pm_message_one(message, arg(worker, 1), arg(worker, 2), arg(worker, 4), arg(worker, 5)) == 0;
    for (unsigned int i = 0; i < count && i < PM_IOV; i++) {
        if (pm_message_read(worker, arg(worker, 1) + i * STEP, message))
            return 0;
        if (message->header.msg_name)
            return 1;
    }
    return 0;
}

/* TCP Fast Open: connect and send in one. A part of the data may be sent, as by any send, and none where the program
   does not wait for the connection: then it sends once it is there. */
static int fast_open(struct worker *worker, const struct taken *taken, const struct pm_address *peer)
{
    if (worker->job.caught->op != OP_SENDMMSG)
        return pm_connect(worker, taken, peer);
    pm_job_return(&worker->job, -EOPNOTSUPP); /* for several messages nobody does that */
    close(taken->fd);
    return 1;
}

/* Its second part. Bytes sent, or -errno. */
long long pm_send_first(struct worker *worker, const struct taken *taken)
{
    struct message *message = malloc(sizeof *message);
    long long sent = message ? -EFAULT : -ENOMEM;

    if (message && addressed(worker, message)) {
        if (message->size >= PM_DATAGRAM)
            message->size = PM_DATAGRAM - 1;
        sent = transmit(worker, taken, message, NULL, (flags_of(worker) & ~MSG_FASTOPEN) | MSG_DONTWAIT, 1);
    }
    free(message);
    return sent;
}

/* What is to be sent, from message `done` on. What the call returns, or UNDECIDED. */
static long long send_all(const struct worker *worker, const struct taken *taken, unsigned int *done,
                          struct pm_name *flow)
{
    struct message *message = malloc(sizeof *message);
    long long sent = message ? -EFAULT : -ENOMEM;

    if (message && worker->job.caught->op == OP_SENDMMSG)
        sent = send_many(worker, taken, message, done, flow);
    else if (message && addressed(worker, message))
        sent = send_one(worker, taken, message, flags_of(worker), flow);
    free(message);
    return *done && sent != UNDECIDED ? *done : sent;
}

static void answered(struct worker *worker, struct parked *call);

/* Without a thread, until Python says where datagrams to call->name.peer go. */
static void ask(struct worker *worker, struct parked *call)
{
    pm_question question = pm_question_of(worker, &call->taken, PM_SENDTO, &call->name.peer);

    call->found.verdict = PM_ASK;
    call->go_on = answered;
    pm_park_asking(worker->pump, call, &question);
}

static void answered(struct worker *worker, struct parked *call)
{
    long long sent = -ESRCH;

    if (!call->code && pm_job_valid(&worker->job)) {
        sent = settle(worker, call);
        if (sent == 0)
            sent = send_all(worker, &call->taken, &call->done, &call->name);
        if (sent == UNDECIDED) {
            ask(worker, call);
            return;
        }
        pm_job_return(&worker->job, call->done ? call->done : sent);
    }
    pm_parked_end(call);
}

/* The descriptor is taken over. */
static void serve(struct worker *worker, const struct taken *taken)
{
    struct pm_name flow;
    unsigned int done = 0;
    long long sent = send_all(worker, taken, &done, &flow);
    struct parked *call = sent == UNDECIDED ? pm_parked_new(worker, taken) : NULL;

    if (call) {
        call->name = flow;
        call->done = done;
        ask(worker, call);
        return;
    }
    pm_job_return(&worker->job, sent == UNDECIDED ? -ENOBUFS : sent);
    close(taken->fd);
}

static int is_ours(const struct worker *worker, const struct taken *taken)
{
    int connects = taken->transport == PM_TCP && flags_of(worker) & MSG_FASTOPEN;

    return (connects || taken->transport == PM_UDP) &&
           !pm_skipped((pid_t)worker->request.pid, worker->pump->skip, worker->pump->skips);
}

/* Where the first message that has an address goes to. 0: none has one that the kernel would take. */
static int first_peer(const struct worker *worker, const struct taken *taken, struct pm_address *peer)
{
    struct message *message = malloc(sizeof *message);
    int found = message && addressed(worker, message) && read_peer(worker, taken, message, peer);

    free(message);
    return found;
}

void pm_serve_send(struct worker *worker)
{
    struct pm_address peer;
    struct taken taken;
    int ours;

    if (!pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    ours = is_ours(worker, &taken) && first_peer(worker, &taken, &peer);
    if (ours && taken.transport == PM_UDP) {
        worker->pump->counters[PM_CARRIED]++;
        pm_leave_door(worker);
        serve(worker, &taken);
    } else if (!ours || !fast_open(worker, &taken, &peer)) {
        pm_leave_alone(worker);
        close(taken.fd);
    }
}
