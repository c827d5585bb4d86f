/* A mock model provider: one thread, epoll, HTTP/1.1 with keep-alive.
 *
 * POST with "stream":true in the body gets CHUNKS server-sent events, one every CHUNK_MS milliseconds, then [DONE];
 * any other POST gets one fixed chat completion. Usage: upstream PORT [CHUNKS [CHUNK_MS]]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 16384, IN = 65536 };

static const char BODY[] =
    "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock-model\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A black hole is a region of spacetime "
    "where gravity is so strong that nothing, not even light, can escape it.\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":21,\"total_tokens\":45}}";
static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char EVENT[] =
    "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
    "\"mock-model\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
static const char LAST[] =
    "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
    "\"mock-model\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
    "\"mock-model\",\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":100,\"total_tokens\":124}}\n\n"
    "data: [DONE]\n\n";

struct connection {
    char *in;
    int used;
    int left;       /* chunks still to be sent; 0: not streaming */
    double due_ms;  /* when the next one is */
};

static struct connection table[MAX_FD];
static char whole[2048], event[1024], last[2048];
static int whole_length, event_length, last_length, streams;
static int chunks = 100, chunk_ms = 20;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void drop(int fd) {
    if (table[fd].left) streams--;
    free(table[fd].in);
    memset(&table[fd], 0, sizeof table[fd]);
    close(fd);
}

/* Replies are small: a socket that cannot take one at once is given up. */
static int say(int fd, const char *data, int length) {
    if (send(fd, data, length, MSG_NOSIGNAL) == length) return 1;
    drop(fd);
    return 0;
}

static void answer(int fd, const char *body, int length) {
    if (memmem(body, length, "\"stream\":true", 13) == NULL) {
        say(fd, whole, whole_length);
        return;
    }
    if (!say(fd, HEAD, sizeof HEAD - 1)) return;
    table[fd].left = chunks + 1;
    table[fd].due_ms = now_ms() + chunk_ms;
    streams++;
}

static void take(int fd) {
    struct connection *c = &table[fd];
    ssize_t got = recv(fd, c->in + c->used, IN - 1 - c->used, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) drop(fd);
        return;
    }
    c->used += got;
    for (;;) {
        c->in[c->used] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (end == NULL) {
            if (c->used >= IN - 1) drop(fd);
            return;
        }
        char *field = strcasestr(c->in, "content-length:");
        int length = field && field < end ? atoi(field + 15) : 0;
        int total = (int)(end - c->in) + 4 + length;
        if (total >= IN) { drop(fd); return; }
        if (c->used < total) return;
        answer(fd, end + 4, length);
        if (c->in == NULL) return; /* dropped */
        memmove(c->in, c->in + total, c->used - total);
        c->used -= total;
        if (c->used == 0) return;
    }
}

/* Send what is due; returns milliseconds until the next chunk, -1 when nothing streams. */
static int pace(int highest) {
    double now = now_ms(), next = 1e18;
    if (streams == 0) return -1;
    for (int fd = 0; fd <= highest; fd++) {
        struct connection *c = &table[fd];
        if (c->left == 0) continue;
        if (c->due_ms <= now) {
            c->left--;
            c->due_ms += chunk_ms;
            if (c->left == 0) {
                streams--;
                say(fd, last, last_length);
                continue;
            }
            if (!say(fd, event, event_length)) continue;
        }
        if (c->due_ms < next) next = c->due_ms;
    }
    if (streams == 0) return -1;
    return next <= now ? 0 : (int)(next - now) + 1;
}

int main(int count, char **arguments) {
    int port = count > 1 ? atoi(arguments[1]) : 9999, yes = 1, highest = 0;
    if (count > 2) chunks = atoi(arguments[2]);
    if (count > 3) chunk_ms = atoi(arguments[3]);
    whole_length = snprintf(whole, sizeof whole,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", sizeof BODY - 1, BODY);
    event_length = snprintf(event, sizeof event, "%zx\r\n%s\r\n", sizeof EVENT - 1, EVENT);
    last_length = snprintf(last, sizeof last, "%zx\r\n%s\r\n0\r\n\r\n", sizeof LAST - 1, LAST);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("upstream");
        return 1;
    }
    int poll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, pace(highest));
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (table[fd].in) take(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MAX_FD) { close(fd); continue; }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                memset(&table[fd], 0, sizeof table[fd]);
                table[fd].in = malloc(IN);
                wanted.data.fd = fd;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
                if (fd > highest) highest = fd;
            }
        }
    }
}
