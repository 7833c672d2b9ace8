/* Calls on sockets. Rules: the program's own socket is used, through a descriptor taken from it for the
   time of the call; its address is read once; what the kernel refuses (a bad address, a socket that is
   connected already) goes on untouched, so that the errno is the kernel's. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "sockets.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif
#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif
#define INTRODUCE_LIMIT 1000 /* ms; a relay on loopback is there at once or not at all */

/* The process a thread belongs to, where a thread has no descriptor of its own. */
static int process_of(pid_t thread)
{
    char place[32], text[1024], *found;
    ssize_t size;
    int fd;

    snprintf(place, sizeof place, "/proc/%d/status", thread);
    fd = open(place, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size < 0 ? 0 : size] = 0;
    found = strstr(text, "\nTgid:");
    return found ? atoi(found + strlen("\nTgid:")) : -1;
}

static int take_descriptor(pid_t thread, int number)
{
    int fd, pidfd = (int)syscall(SYS_pidfd_open, thread, PIDFD_THREAD);

    if (pidfd < 0)
        pidfd = (int)syscall(SYS_pidfd_open, thread, 0);
    if (pidfd < 0)
        pidfd = (int)syscall(SYS_pidfd_open, process_of(thread), 0);
    if (pidfd < 0)
        return -1;
    fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    close(pidfd);
    return fd;
}

static int option(int fd, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

static enum pm_transport transport_of(int domain, int type, int protocol)
{
    if (domain == AF_UNIX)
        return type == SOCK_STREAM ? PM_UNIX : type == SOCK_SEQPACKET ? PM_UNIXPACKET : PM_NO_TRANSPORT;
    if (domain != AF_INET && domain != AF_INET6)
        return PM_NO_TRANSPORT;
    if (type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP))
        return PM_TCP;
    return type == SOCK_DGRAM && protocol == IPPROTO_UDP ? PM_UDP : PM_NO_TRANSPORT;
}

/* The program's socket. 0: it is none of ours to look at, or nobody waits any more. */
int pm_take(struct worker *worker, struct taken *taken)
{
    socklen_t size = sizeof taken->socket;

    taken->fd = take_descriptor((pid_t)worker->request.pid, (int)arg(worker, 0));
    if (taken->fd < 0)
        return 0;
    taken->domain = option(taken->fd, SO_DOMAIN);
    taken->transport = transport_of(taken->domain, option(taken->fd, SO_TYPE), option(taken->fd, SO_PROTOCOL));
    taken->blocking = !(fcntl(taken->fd, F_GETFL) & O_NONBLOCK);
    if (taken->transport != PM_NO_TRANSPORT && pm_job_valid(&worker->job) &&
        getsockopt(taken->fd, SOL_SOCKET, SO_COOKIE, &taken->socket, &size) == 0)
        return 1;
    close(taken->fd);
    return 0;
}

/* An address as the kernel would take it for a socket of that domain. 0: it would not, or it means none. */
int pm_well_formed(const struct pm_address *address, int domain)
{
    sa_family_t family;

    memcpy(&family, address->bytes, sizeof family);
    if (family != domain)
        return 0;
    if (family == AF_INET)
        return address->size >= sizeof(struct sockaddr_in);
    if (family == AF_INET6)
        return address->size >= sizeof(struct sockaddr_in6);
    return address->size > sizeof family;
}

int pm_read_address(const struct worker *worker, uint64_t place, uint64_t size, struct pm_address *address)
{
    if (size < sizeof(sa_family_t) || size > sizeof(struct sockaddr_storage))
        return 0;
    address->size = (unsigned char)(size > PM_ADDRESS_SIZE ? PM_ADDRESS_SIZE : size);
    return pm_read((pid_t)worker->request.pid, place, address->bytes, address->size) == 0;
}

/* The next part of a PM_ADDRESS answer, each with its length before it. 0: there is none. */
int pm_unpack(const struct pm_found *found, int *at, struct pm_address *part)
{
    int size = *at < found->size ? (unsigned char)found->value[*at] : PM_ADDRESS_SIZE + 1;

    if (size > PM_ADDRESS_SIZE || *at + 1 + size > found->size)
        return 0;
    part->size = (unsigned char)size;
    memcpy(part->bytes, found->value + *at + 1, (size_t)size);
    *at += 1 + size;
    return 1;
}

/* Before the program can write, for its call has not returned. 0 or -errno. */
static int introduce(const struct taken *taken, const struct pm_address *words)
{
    struct pollfd ready = {.fd = taken->fd, .events = POLLOUT};

    if (words->size == 0)
        return 0;
    if (poll(&ready, 1, INTRODUCE_LIMIT) <= 0 || !(ready.revents & POLLOUT) || ready.revents & (POLLERR | POLLHUP))
        return -ECONNREFUSED;
    if (send(taken->fd, words->bytes, words->size, MSG_NOSIGNAL | MSG_DONTWAIT) != words->size)
        return -ECONNREFUSED;
    return 0;
}

static long long join(struct worker *worker, const struct taken *taken, struct pm_name *name)
{
    struct pm_address words;
    int at = 0, failed = 0, refused;

    if (!pm_unpack(&worker->job.found, &at, &name->relay) || !pm_unpack(&worker->job.found, &at, &words) ||
        !pm_unpack(&worker->job.found, &at, &name->name))
        return -EIO;
    if (connect(taken->fd, (void *)name->relay.bytes, name->relay.size) < 0)
        failed = -errno;
    if (failed && failed != -EINPROGRESS)
        return failed;
    pm_names_put(worker->pump->names, name);
    refused = introduce(taken, &words);
    return refused ? refused : failed;
}

static void answer_connect(struct worker *worker, const struct taken *taken, const struct pm_address *peer)
{
    struct pm_job *job = &worker->job;
    struct pm_name name = {.socket = taken->socket, .peer = *peer};

    if (!pm_job_valid(job))
        return;
    if (job->found.verdict == PM_ADDRESS) {
        worker->pump->counters[PM_CARRIED]++;
        pm_job_return(job, join(worker, taken, &name));
    } else if (job->found.verdict == PM_ERRNO) {
        pm_job_return(job, -job->found.code);
    } else {
        pm_names_drop(worker->pump->names, taken->socket);
        pm_leave_alone(worker);
    }
}

static int connected(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;

    return getpeername(fd, (void *)&peer, &size) == 0;
}

/* Is it Python's to say where this goes? */
static int is_a_question(const struct worker *worker, const struct taken *taken, const struct pm_address *peer)
{
    if (!pm_well_formed(peer, taken->domain) || (taken->transport != PM_UDP && connected(taken->fd)))
        return 0;
    return !pm_skipped((pid_t)worker->request.pid, worker->pump->skip, worker->pump->skips);
}

/* A blocking connect may take minutes: a signal ends it, as it does in the kernel. */
static int look(struct worker *worker)
{
    if (!pm_job_valid(&worker->job))
        return ESRCH;
    return -pm_interrupted((pid_t)worker->request.pid, 0);
}

void pm_ask_socket(struct worker *worker, const struct taken *taken, int kind, const struct pm_address *peer)
{
    pm_question question = {.kind = kind, .size = peer->size, .path = (const char *)peer->bytes,
                            .domain = taken->domain, .transport = taken->transport,
                            .blocking = taken->blocking && pm_waiting < MOST_WAITING, .socket = taken->socket};

    pm_leave_door(worker);
    pm_waiting++;
    worker->look = taken->blocking ? look : NULL;
    pm_put(worker, &question);
    worker->look = NULL;
    pm_waiting--;
}

static void serve_connect(struct worker *worker)
{
    struct pm_address peer;
    struct taken taken;

    if (!pm_read_address(worker, arg(worker, 1), (uint32_t)arg(worker, 2), &peer) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    worker->job.found.verdict = PM_CONTINUE;
    if (is_a_question(worker, &taken, &peer))
        pm_ask_socket(worker, &taken, PM_CONNECT, &peer);
    answer_connect(worker, &taken, &peer);
    close(taken.fd);
}

/* A port of 0 in the name shown stands for the socket's own. */
static void fill_port(int fd, struct pm_address *shown)
{
    struct sockaddr_in6 own; /* the port is at the same place in both families */
    socklen_t size = sizeof own;
    struct sockaddr_in6 *name = (void *)shown->bytes;

    if (name->sin6_family != AF_UNIX && name->sin6_port == 0 && getsockname(fd, (void *)&own, &size) == 0)
        name->sin6_port = own.sin6_port;
}

/* Into the program's memory, if it is still the one that asked. 0 or -errno. */
int pm_give(const struct worker *worker, uint64_t place, const void *bytes, size_t size)
{
    int memory = pm_memory_open((pid_t)worker->request.pid);
    int failed = memory < 0 ? memory : -ESRCH;

    if (memory < 0)
        return failed;
    if (pm_job_valid(&worker->job))
        failed = pm_memory_write(memory, place, bytes, size);
    close(memory);
    return failed;
}

/* As the kernel writes an address: as much as there is room for, and its true size. 0 or -errno. */
long long pm_give_address(const struct worker *worker, uint64_t place, uint64_t size_place,
                          const struct pm_address *address)
{
    pid_t pid = (pid_t)worker->request.pid;
    int room, size = address->size;

    if (pm_read(pid, size_place, &room, sizeof room))
        return -EFAULT;
    if (room < 0)
        return -EINVAL;
    if (pm_give(worker, place, address->bytes, (size_t)(room < size ? room : size)))
        return -EFAULT;
    return pm_give(worker, size_place, &size, sizeof size) ? -EFAULT : 0;
}

static void serve_name(struct worker *worker)
{
    int of_peer = worker->job.caught->op == OP_GETPEERNAME;
    struct pm_address *shown;
    struct taken taken;
    struct pm_name name;

    if (!pm_names_any(worker->pump->names) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    shown = of_peer ? &name.peer : &name.name;
    if (pm_names_find(worker->pump->names, taken.socket, &name) && shown->size && connected(taken.fd)) {
        if (!of_peer)
            fill_port(taken.fd, shown);
        pm_job_return(&worker->job, pm_give_address(worker, arg(worker, 1), arg(worker, 2), shown));
    } else {
        pm_leave_alone(worker);
    }
    close(taken.fd);
}

void pm_serve_socket(struct worker *worker)
{
    switch (worker->job.caught->op) {
    case OP_CONNECT:
        serve_connect(worker);
        break;
    case OP_GETPEERNAME: case OP_GETSOCKNAME:
        serve_name(worker);
        break;
    case OP_SENDTO: case OP_SENDMSG: case OP_SENDMMSG:
        pm_serve_send(worker);
        break;
    default:
        pm_serve_receive(worker);
    }
}
