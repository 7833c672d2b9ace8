/* The network probe: says what came of each argument, the same in every language.
 *
 *   tcp,HOST,PORT   tcp HOST: WORDS from OWN to PEER   by the name, as programs of that language connect
 *   all,HOST,PORT   all HOST: WORDS from OWN to PEER   a line for each address of the name
 *   udp,HOST,PORT   udp HOST: WORDS
 *   unix,PATH       unix PATH: WORDS
 *   https,URL       https URL: BODY   without white space; as the pod's service account (not in C, which has no TLS)
 *
 * WORDS: the last line of the answer to `GET /`; of UDP the datagram. In place of it "refused", or "unknown" for a name.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char question[] = "GET / HTTP/1.0\r\n\r\n";

static const char *ip(const struct sockaddr_storage *address, socklen_t size) {
    static char text[2][NI_MAXHOST];
    static int turn;
    turn = !turn;
    return getnameinfo((void *)address, size, text[turn], NI_MAXHOST, NULL, 0, NI_NUMERICHOST) ? "?" : text[turn];
}

static void print_last_line(int fd) {
    char text[4096], *line;
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, text + size, sizeof text - 1 - size)) > 0) size += n;
    text[size] = 0;
    if (size && text[size - 1] == '\n') text[size - 1] = 0;
    line = strrchr(text, '\n');
    printf("%s", line ? line + 1 : text);
}

static void print_failure(void) {
    printf("%s\n", errno == ECONNREFUSED ? "refused" : strerror(errno));
}

/* Whether it is connected. */
static int visit(const struct addrinfo *to) {
    struct sockaddr_storage own, peer;
    socklen_t own_size = sizeof own, peer_size = sizeof peer;
    int fd = socket(to->ai_family, SOCK_STREAM, 0);
    if (connect(fd, to->ai_addr, to->ai_addrlen)) {
        close(fd);
        return 0;
    }
    getsockname(fd, (void *)&own, &own_size);
    getpeername(fd, (void *)&peer, &peer_size);
    write(fd, question, sizeof question - 1);
    print_last_line(fd);
    printf(" from %s to %s\n", ip(&own, own_size), ip(&peer, peer_size));
    close(fd);
    return 1;
}

static int datagram(const struct addrinfo *to) {
    char text[512];
    int fd = socket(to->ai_family, SOCK_DGRAM, 0);
    sendto(fd, question, sizeof question - 1, 0, to->ai_addr, to->ai_addrlen);
    printf("%.*s\n", (int)recv(fd, text, sizeof text, 0), text);
    close(fd);
    return 1;
}

static void one(const char *kind, const char *host, const struct addrinfo *found, int (*reach)(const struct addrinfo *)) {
    printf("%s %s: ", kind, host);
    for (; found; found = found->ai_next)
        if (reach(found)) return;
    print_failure();
}

static void named(const char *kind, const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *each;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed) {
        printf("%s %s: %s\n", kind, host, failed == EAI_NONAME ? "unknown" : gai_strerror(failed));
        return;
    }
    if (strcmp(kind, "all")) {
        one(kind, host, found, strcmp(kind, "udp") ? visit : datagram);
    } else {
        for (each = found; each; each = each->ai_next) {
            struct addrinfo alone = *each;
            alone.ai_next = NULL;
            one(kind, host, &alone, visit);
        }
    }
    freeaddrinfo(found);
}

static void by_path(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    printf("unix %s: ", path);
    if (connect(fd, (void *)&to, sizeof to)) {
        print_failure();
    } else {
        write(fd, question, sizeof question - 1);
        print_last_line(fd);
        puts("");
    }
    close(fd);
}

int main(int count, char **words) {
    for (int i = 1; i < count; i++) {
        const char *kind = strtok(words[i], ","), *host = strtok(NULL, ","), *port = strtok(NULL, ",");
        if (!strcmp(kind, "unix"))
            by_path(host);
        else
            named(kind, host, port);
    }
    return 0;
}
