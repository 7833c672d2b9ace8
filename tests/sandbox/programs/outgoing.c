/* Connects to each HOST and PORT given (pairs), and prints as outgoing.go does. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
    for (int i = 1; i + 1 < count; i += 2) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[i + 1]))}, own;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        socklen_t size = sizeof own;
        char seen[64], told[64], answer[16];
        FILE *file;

        inet_pton(AF_INET, words[i], &to.sin_addr);
        if (connect(fd, (void *)&to, sizeof to) < 0) {
            puts(errno == ECONNREFUSED ? "refused" : errno == EHOSTUNREACH ? "unreachable" : strerror(errno));
            close(fd);
            continue;
        }
        getsockname(fd, (void *)&own, &size);
        snprintf(told, sizeof told, "%s %d\n", inet_ntoa(own.sin_addr), ntohs(own.sin_port));
        file = fdopen(fd, "r+");
        if (!fgets(seen, sizeof seen, file) || write(fd, "ping\n", 5) != 5 || !fgets(answer, sizeof answer, file))
            return 1;
        getpeername(fd, (void *)&to, &size);
        printf("%s:%d %d %s", inet_ntoa(to.sin_addr), ntohs(to.sin_port), strcmp(seen, told) == 0, answer);
        fclose(file);
    }
    return 0;
}
