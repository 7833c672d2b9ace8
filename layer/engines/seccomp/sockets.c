/* Calls on sockets. Rules: the program's own socket is used, through a descriptor taken from it for the
   time of the call; its address is read once; what the kernel refuses (a bad address, a socket that is
   connected already) goes on untouched, so that the errno is the kernel's. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
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
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#define RFC2133 24 /* bytes of an IPv6 address without its scope: the kernel takes it */
#define LOOPBACK 1 /* the kernel's LOOPBACK_IFINDEX */

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

static int exhausted(void)
{
    return errno == EMFILE || errno == ENFILE || errno == ENOMEM;
}

/* A pidfd of the thread, or of its process where the kernel has none for threads; -1. */
int pm_pidfd(pid_t thread)
{
    int pidfd = (int)syscall(SYS_pidfd_open, thread, PIDFD_THREAD);

    if (pidfd < 0 && !exhausted())
        pidfd = (int)syscall(SYS_pidfd_open, thread, 0);
    if (pidfd < 0 && !exhausted())
        pidfd = (int)syscall(SYS_pidfd_open, process_of(thread), 0);
    return pidfd;
}

int pm_take_descriptor(pid_t thread, int number)
{
    int fd, pidfd = pm_pidfd(thread);

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

/* The network namespace a socket belongs to. */
static uint64_t network_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;

    getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
    return cookie;
}

uint64_t pm_network(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t cookie = fd < 0 ? 0 : network_of(fd);

    close(fd);
    return cookie;
}

/* The program's socket, as far as its name goes. 0: it is none of ours to look at, or nobody waits any more. One of a
   network namespace that the program has made for itself reaches no relay of ours. What could not be looked at for
   want of a descriptor fails: it may be the target's, and must not leave from this machine. */
int pm_take_named(struct worker *worker, struct taken *taken)
{
    socklen_t size = sizeof taken->socket;

    taken->fd = pm_take_descriptor((pid_t)worker->request.pid, (int)arg(worker, 0));
    if (taken->fd < 0) {
        if (exhausted())
            pm_job_return(&worker->job, -ENOBUFS);
        return 0;
    }
    taken->domain = option(taken->fd, SO_DOMAIN);
    if (network_of(taken->fd) == worker->pump->network && pm_job_valid(&worker->job) &&
        getsockopt(taken->fd, SOL_SOCKET, SO_COOKIE, &taken->socket, &size) == 0)
        return 1;
    close(taken->fd);
    return 0;
}

int pm_waits(int fd)
{
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* With all that counts where it is to go. 0: also for one of another transport. */
int pm_take(struct worker *worker, struct taken *taken)
{
    if (!pm_take_named(worker, taken))
        return 0;
    taken->transport = transport_of(taken->domain, option(taken->fd, SO_TYPE), option(taken->fd, SO_PROTOCOL));
    taken->blocking = pm_waits(taken->fd);
    taken->device = option(taken->fd, SO_BINDTOIFINDEX);
    if (taken->device <= LOOPBACK) /* our relays are there */
        taken->device = 0;
    if (taken->transport != PM_NO_TRANSPORT)
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

/* No address at all is loopback, for who connects or sends, and getpeername tells it so. */
static void mean_loopback(struct in6_addr *six)
{
    static const struct in6_addr mapped = {{{[10] = 0xff, [11] = 0xff}}};

    if (IN6_IS_ADDR_UNSPECIFIED(six)) {
        *six = in6addr_loopback;
    } else if (memcmp(six, &mapped, sizeof mapped) == 0) {
        six->s6_addr[12] = 127;
        six->s6_addr[15] = 1;
    }
}

/* What the kernel does not look at, or takes for the same, must not make two addresses of one. peer: it is one to
   connect or send to. */
static void tidy(struct pm_address *address, int peer)
{
    struct sockaddr_in *four = (void *)address->bytes;
    struct sockaddr_in6 *six = (void *)address->bytes;

    if (four->sin_family == AF_INET && address->size >= sizeof *four) {
        address->size = sizeof *four;
        memset(four->sin_zero, 0, sizeof four->sin_zero);
        if (peer && four->sin_addr.s_addr == htonl(INADDR_ANY))
            four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else if (six->sin6_family == AF_INET6 && address->size >= RFC2133) {
        if (address->size < sizeof *six)
            six->sin6_scope_id = 0;
        address->size = sizeof *six;
        six->sin6_flowinfo = 0;
        if (peer)
            mean_loopback(&six->sin6_addr);
    }
}

/* An IPv4 address for datagrams of an IPv6 socket, which the kernel takes too, as the mapped one it means. */
void pm_fit(struct pm_address *address, const struct taken *taken)
{
    struct sockaddr_in four;
    struct sockaddr_in6 *six = (void *)address->bytes;

    memcpy(&four, address->bytes, sizeof four);
    if (taken->transport != PM_UDP || taken->domain != AF_INET6 || !pm_well_formed(address, AF_INET))
        return;
    *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = four.sin_port};
    six->sin6_addr.s6_addr[10] = six->sin6_addr.s6_addr[11] = 0xff;
    memcpy(&six->sin6_addr.s6_addr[12], &four.sin_addr, sizeof four.sin_addr);
    address->size = sizeof *six;
}

static int read_address(const struct worker *worker, uint64_t place, uint64_t size, struct pm_address *address, int peer)
{
    if (size < sizeof(sa_family_t) || size > sizeof(struct sockaddr_storage))
        return 0;
    address->size = (unsigned char)(size > PM_ADDRESS_SIZE ? PM_ADDRESS_SIZE : size);
    if (pm_read((pid_t)worker->request.pid, place, address->bytes, address->size))
        return 0;
    tidy(address, peer);
    return 1;
}

int pm_read_address(const struct worker *worker, uint64_t place, uint64_t size, struct pm_address *address)
{
    return read_address(worker, place, size, address, 1);
}

/* Of the socket itself. */
int pm_read_own(const struct worker *worker, uint64_t place, uint64_t size, struct pm_address *address)
{
    return read_address(worker, place, size, address, 0);
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

pm_question pm_question_of(const struct worker *worker, const struct taken *taken, int kind,
                           const struct pm_address *peer)
{
    return (pm_question){.kind = kind, .size = peer->size, .path = (const char *)peer->bytes,
                         .pid = worker->request.pid, .domain = taken->domain, .transport = taken->transport,
                         .blocking = taken->blocking, .device = taken->device, .socket = taken->socket};
}

int pm_connected(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;

    return getpeername(fd, (void *)&peer, &size) == 0;
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
    int room, size = address->size, memory;
    long long failed = -EFAULT;

    if (pm_read(pid, size_place, &room, sizeof room))
        return -EFAULT;
    if (room < 0)
        return -EINVAL;
    memory = pm_memory_open(pid);
    if (memory < 0)
        return -EFAULT;
    if (pm_job_valid(&worker->job) &&
        pm_memory_write(memory, place, address->bytes, (size_t)(room < size ? room : size)) == 0)
        failed = pm_memory_write(memory, size_place, &size, sizeof size);
    close(memory);
    return failed;
}

void pm_serve_socket(struct worker *worker)
{
    switch (worker->job.caught->op) {
    case OP_CONNECT:
        pm_serve_connect(worker);
        break;
    case OP_GETPEERNAME: case OP_GETSOCKNAME:
        pm_serve_name(worker);
        break;
    case OP_BIND:
        pm_serve_bind(worker);
        break;
    case OP_LISTEN:
        pm_serve_listen(worker);
        break;
    case OP_ACCEPT: case OP_ACCEPT4:
        pm_serve_accept(worker);
        break;
    case OP_SENDTO: case OP_SENDMSG: case OP_SENDMMSG:
        pm_serve_send(worker);
        break;
    default:
        pm_serve_receive(worker);
    }
}

int pm_forget(pm_pump *pump, unsigned long long socket, const char *address, int size)
{
    struct pm_address peer = {.size = (unsigned char)size};

    if (size < 0 || size > PM_ADDRESS_SIZE)
        return EINVAL;
    memcpy(peer.bytes, address, (size_t)size);
    pm_names_drop_flow(pump->names, socket, &peer);
    return 0;
}

int pm_named(pm_pump *pump, unsigned long long socket, int put)
{
    struct pm_name name = {.socket = socket};

    if (put)
        pm_names_put(pump->names, &name);
    return put || pm_names_find(pump->names, socket, &name);
}
