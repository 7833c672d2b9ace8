/* The edges of connect, as C programs meet them: signals, time limits, odd addresses. `edges ADDRESS` prints one
   line for each thing it tried; the servers are those of servers.py. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *host;
static int going; /* a UDP socket: what is sent to it opens port 7016 */
static volatile int alarms;

static struct sockaddr_in server(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static const char *name(int result)
{
    return result == 0 ? "0" : strerrorname_np(errno);
}

static void alarmed(int number)
{
    (void)number;
    if (alarms++ == 0)
        send(going, "go", 2, 0);
}

/* A signal every 20 ms, or none. */
static void every(int on, int flags)
{
    struct sigaction action = {.sa_handler = alarmed, .sa_flags = flags};
    struct itimerval timer = {{0, on * 20000}, {0, on * 20000}};

    alarms = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static int to_7016(int fd)
{
    struct sockaddr_in to = server(7016);

    return connect(fd, (void *)&to, sizeof to);
}

/* The server's greeting and an echo: the connection is a whole one. */
static void use(const char *what, int fd)
{
    struct pollfd ready = {fd, POLLOUT, 0};
    char data[100] = "";
    size_t size = 0;

    poll(&ready, 1, 20000);
    send(fd, "ping", 4, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    for (ssize_t more = 1; more > 0 && size < sizeof data - 1; size += (size_t)(more > 0 ? more : 0))
        more = read(fd, data + size, sizeof data - 1 - size);
    printf(" %s %s\n", what, strchr(data, '\n') ? strchr(data, '\n') + 1 : data);
    close(fd);
}

static void signals(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), several;

    every(1, SA_RESTART);
    printf("restarted %s", name(to_7016(fd)));
    several = alarms > 1;
    every(0, 0);
    use(several ? "by several" : "by none", fd);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    every(1, 0);
    printf("interrupted %s", name(to_7016(fd)));
    every(0, 0);
    printf(" %s", name(to_7016(fd)));
    printf(" %s", name(to_7016(fd)));
    use("asked again", fd);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    every(1, 0);
    printf("interrupted %s", name(to_7016(fd)));
    every(0, 0);
    use("polled", fd);
}

static void limits(void)
{
    struct timeval limit = {0, 300000};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    printf("limited %s", name(to_7016(fd)));
    send(going, "go", 2, 0);
    use("polled", fd);
}

/* More bytes than an address has, and what the kernel does not look at in it. */
static void addresses(void)
{
    union { struct sockaddr_in in; struct sockaddr_storage storage; } to, from;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t size = sizeof from;
    char data[16];

    memset(&to, 7, sizeof to);
    to.in = server(7010);
    memset(to.in.sin_zero, 7, sizeof to.in.sin_zero);
    printf("long %s", name(connect(fd, (void *)&to, sizeof to)));
    getpeername(fd, (void *)&from, &size);
    printf(" %u %d", size, from.in.sin_zero[0]);
    send(fd, "", 0, 0);
    printf(" %zd\n", recv(fd, data, sizeof data, 0));
    close(fd);
}

static void dissolved(void)
{
    struct sockaddr_in six[2] = {server(7010), server(7011)}, from;
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t size = sizeof from;
    char data[16] = "";

    sendto(fd, "a", 1, 0, (void *)&six[0], sizeof six[0]);
    recv(fd, data, sizeof data, 0);
    connect(fd, (void *)&six[1], sizeof six[1]);
    printf("dissolved %s", name(connect(fd, &none, sizeof none)));
    printf(" %s", name(getpeername(fd, (void *)&from, &size)));
    printf(" %s", name(send(fd, "x", 1, 0) == 1 ? 0 : -1));
    for (int i = 0; i < 2; i++) {
        sendto(fd, "b", 1, 0, (void *)&six[i], sizeof six[i]);
        size = sizeof from;
        memset(data, 0, sizeof data);
        recvfrom(fd, data, sizeof data, 0, (void *)&from, &size);
        printf(" %s/%d", data, ntohs(from.sin_port));
    }
    printf("\n");
    close(fd);
}

/* The kernel takes an IPv4 address for datagrams of an IPv6 socket. */
static void mixed(void)
{
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in to = server(7010);
    struct sockaddr_in6 from;
    socklen_t size = sizeof from;
    char data[16] = "", text[64];

    printf("mixed %s", name(sendto(fd, "x", 1, 0, (void *)&to, sizeof to) == 1 ? 0 : -1));
    recvfrom(fd, data, sizeof data, 0, (void *)&from, &size);
    printf(" %s %s", data, inet_ntop(AF_INET6, &from.sin6_addr, text, sizeof text));
    printf(" %s", name(connect(fd, (void *)&to, sizeof to)));
    size = sizeof from;
    getpeername(fd, (void *)&from, &size);
    printf(" %s\n", inet_ntop(AF_INET6, &from.sin6_addr, text, sizeof text));
    close(fd);
}

int main(int count, char **words)
{
    struct sockaddr_in go;

    host = count > 1 ? words[1] : "10.77.0.1";
    setvbuf(stdout, NULL, _IOLBF, 0);
    go = server(7016);
    going = socket(AF_INET, SOCK_DGRAM, 0);
    connect(going, (void *)&go, sizeof go);
    addresses();
    dissolved();
    mixed();
    signals();
    limits();
    return 0;
}
