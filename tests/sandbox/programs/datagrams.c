/* UDP as C programs do it that check whom an answer is from, as musl's resolver does. Prints one line for
   each thing it tried; `datagrams ADDRESS` has servers on ports 7010 and 7011, and none on 7099. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in server(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static const char *name(int code)
{
    return code == EAGAIN ? "EAGAIN" : code == EINTR ? "EINTR" : code ? strerror(code) : "0";
}

static int handled;
static void handler(int number) { handled += number == SIGUSR1; }

/* Two servers by one sendmmsg, their answers by one recvmmsg; each answer from the one that was asked. */
static void many(const char *host)
{
    struct sockaddr_in to[2] = {server(host, 7010), server(host, 7011)}, from[2] = {0};
    char out[2][4] = {"one", "two"}, in[2][16] = {0}, control[2][64];
    struct iovec parts[2] = {{out[0], 3}, {out[1], 3}}, room[2] = {{in[0], 15}, {in[1], 15}};
    struct mmsghdr send[2] = {0}, receive[2] = {0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), sent, got, good = 1;

    for (int i = 0; i < 2; i++) {
        send[i].msg_hdr = (struct msghdr){.msg_name = &to[i], .msg_namelen = sizeof to[i],
                                           .msg_iov = &parts[i], .msg_iovlen = 1};
        receive[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i],
                                              .msg_iov = &room[i], .msg_iovlen = 1,
                                              .msg_control = control[i], .msg_controllen = 64};
    }
    sent = sendmmsg(fd, send, 2, 0);
    got = recvmmsg(fd, receive, 2, 0, NULL);
    for (int i = 0; i < got; i++)
        good &= (int)receive[i].msg_len == 8 && receive[i].msg_hdr.msg_namelen == sizeof from[i] &&
                ntohs(from[i].sin_port) == atoi(in[i]) && from[i].sin_addr.s_addr == to[0].sin_addr.s_addr;
    printf("many %d %d %u %d\n", sent, got, send[0].msg_len, good);
    close(fd);
}

/* One message has an address and one has none, which is for where the socket is connected to. */
static void mixed(const char *host)
{
    struct sockaddr_in to = server(host, 7010), other = server(host, 7011);
    struct iovec part = {"mixed", 5};
    struct mmsghdr none = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}}, one = none;
    struct timeval limit = {20, 0};

    one.msg_hdr.msg_name = &other;
    one.msg_hdr.msg_namelen = sizeof other;
    for (int connected = 0; connected < 2; connected++) {
        struct mmsghdr send[2] = {connected ? none : one, connected ? one : none};
        int fd = socket(AF_INET, SOCK_DGRAM, 0), sent, got;
        char answer[16] = {0};

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (connected)
            connect(fd, (void *)&to, sizeof to);
        sent = sendmmsg(fd, send, 2, 0);
        got = (int)recv(fd, answer, sizeof answer - 1, 0);
        printf("mixed %d %u %d %s\n", sent, send[0].msg_len, got, answer);
        close(fd);
    }
}

/* A corked socket's first datagram, in two parts, and an address without a family, which is one of IPv4. */
static void odd(const char *host)
{
    struct sockaddr_in to = server(host, 7010), plain = to;
    struct timeval limit = {20, 0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), corked = 1, open = 0;
    char answer[32] = {0};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_UDP, 1, &corked, sizeof corked); /* UDP_CORK */
    sendto(fd, "one", 3, 0, (void *)&to, sizeof to);
    sendto(fd, "two", 3, 0, (void *)&to, sizeof to);
    setsockopt(fd, IPPROTO_UDP, 1, &open, sizeof open);
    recv(fd, answer, sizeof answer - 1, 0);
    printf("cork %s\n", answer);
    plain.sin_family = AF_UNSPEC;
    memset(answer, 0, sizeof answer);
    sendto(fd, "plain", 5, 0, (void *)&plain, sizeof plain);
    recv(fd, answer, sizeof answer - 1, 0);
    printf("plain %s\n", answer);
    close(fd);
}

static void limits(const char *host)
{
    struct sockaddr_in to = server(host, 7099), from;
    struct timeval limit = {0, 100000};
    char data[16], small[4];
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t size = sizeof from;
    ssize_t got;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sendto(fd, "x", 1, 0, (void *)&to, sizeof to); /* nobody is there: that ends nothing */
    got = recvfrom(fd, data, sizeof data, 0, (void *)&from, &size);
    printf("limit %zd %s\n", got, name(errno));
    to = server(host, 7010);
    limit.tv_sec = 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sendto(fd, "abc", 3, 0, (void *)&to, sizeof to);
    printf("peek %zd", recvfrom(fd, small, sizeof small, MSG_PEEK | MSG_TRUNC, (void *)&from, &size));
    printf(" short %zd %d\n", recvfrom(fd, small, sizeof small, 0, (void *)&from, &size), ntohs(from.sin_port));
    got = recvfrom(fd, data, sizeof data, MSG_DONTWAIT, (void *)&from, &size);
    printf("none %zd %s\n", got, name(errno));
    size = 4; /* less room than the address needs: cut, and the true size told */
    sendto(fd, "", 0, 0, (void *)&to, sizeof to);
    got = recvfrom(fd, data, sizeof data, 0, (void *)&from, &size);
    printf("empty %zd %u\n", got, size);
    close(fd);
}

struct waiter { int fd; int port; };
static void *wait_for_one(void *given)
{
    struct waiter *waiter = given;
    struct sockaddr_in from = {0};
    socklen_t size = sizeof from;
    char data[16];

    if (recvfrom(waiter->fd, data, sizeof data, 0, (void *)&from, &size) > 0)
        waiter->port = ntohs(from.sin_port);
    return NULL;
}

/* A thread that waited before the socket had sent anything is told the true sender too. */
static void early(const char *host)
{
    struct sockaddr_in to = server(host, 7011), any = {.sin_family = AF_INET};
    struct waiter waiter = {socket(AF_INET, SOCK_DGRAM, 0), 0};
    pthread_t thread;

    bind(waiter.fd, (void *)&any, sizeof any);
    pthread_create(&thread, NULL, wait_for_one, &waiter);
    usleep(50000); /* most likely it waits by then; if not, it is the easier case */
    sendto(waiter.fd, "e", 1, 0, (void *)&to, sizeof to);
    pthread_join(thread, NULL);
    printf("early %d\n", waiter.port);
    close(waiter.fd);
}

/* A signal ends a waiting call, or is handled and the call goes on, as its handler was installed. */
static void signals(const char *host)
{
    struct sockaddr_in to = server(host, 7010), from;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t size = sizeof from;
    char data[16];

    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = {.sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0};
        pid_t child;

        sigaction(SIGUSR1, &action, NULL);
        child = fork();
        if (child == 0) {
            usleep(100000);
            kill(getppid(), SIGUSR1);
            usleep(100000);
            if (restart)
                sendto(fd, "r", 1, 0, (void *)&to, sizeof to);
            _exit(0);
        }
        errno = 0;
        printf("signal %zd", recvfrom(fd, data, sizeof data, 0, (void *)&from, &size));
        printf(" %s %d\n", name(errno), handled);
        while (waitpid(child, NULL, 0) < 0)
            ;
    }
    close(fd);
}

int main(int count, char **words)
{
    const char *host = count > 1 ? words[1] : "10.77.0.1";

    setvbuf(stdout, NULL, _IOLBF, 0);
    many(host);
    mixed(host);
    odd(host);
    limits(host);
    early(host);
    signals(host);
    return 0;
}
