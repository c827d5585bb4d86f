/* HTTP load on 127.0.0.1: one thread, epoll, keep-alive. Prints what it saw as one JSON object.
 *
 *   load -p PORT -c CONNECTIONS (-t SECONDS | -n COUNT) [-r RATE] [-k KIND] [-s SALT] [-a KEY] [-H FIELD]...
 *
 * Without -r each connection asks again as soon as it has its answer (closed loop). With -r requests are due at random
 * moments, RATE a second on average with exponential gaps, whatever became of those before (open loop): one that finds
 * no free connection waits, and its latency counts from when it was due, so that a stall shows in all requests it
 * delayed. The gaps come from a fixed seed.
 *
 * KIND: short (prompts of 100 characters, each another), long (500), same (one prompt), messages (short, at Anthropic's
 * door), stream (each answer is a stream, read to its [DONE]). SALT keeps two runs from sending the same prompts. KEY
 * goes as a bearer token; a file of keys, one a line, as @PATH: they take turns. FIELD: one more line of the header.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN = 65536, OUT = 4096, MAX_SAMPLES = 4 << 20 };

struct connection {
    int fd, used, busy;
    double due, asked;   /* seconds: when the request should have gone, when it went */
    double first;        /* when its first chunk came */
    char in[IN];
};

static struct connection *table;
static int connections = 1, port, streaming;
static long count, answered, asked, chunks, errors, samples, firsts;
static double rate, seconds_wanted, begun, next_due;
static float *latency, *first_chunk;
static const char *kind = "short", *salt = "0";
static char more_fields[1024];
static char **keys;
static int key_count;
static int poll_fd;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double gap(void) { return -log(1 - drand48()) / rate; }

static void dial(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &wanted);
    c->used = c->busy = 0;
}

static void ask(struct connection *c, double due) {
    static const char filler[] =
        "Compare renting and buying a flat for a young family. Compare renting and buying a flat for a young family. "
        "Compare renting and buying a flat for a young family. Compare renting and buying a flat for a young family. "
        "Compare renting and buying a flat for a young family. Compare renting and buying a flat for a young family. "
        "Compare renting and buying a flat for a young family. Compare renting and buying a flat for a young family. "
        "Compare renting and buying a flat for a young family. ";
    char text[1024], body[OUT], out[2 * OUT], bearer[256] = "";
    int size = strcmp(kind, "long") ? 100 : 500;
    long number = strcmp(kind, "same") ? ++asked : (++asked, 0);
    snprintf(text, sizeof text, "Explain what a black hole is in one sentence, number %s.%ld. %s", salt, number, filler);
    int length = snprintf(body, sizeof body,
        "{\"model\":\"auto\",\"max_tokens\":512,%s\"messages\":[{\"role\":\"user\",\"content\":\"%.*s\"}]}",
        streaming ? "\"stream\":true," : "", size, text);
    if (key_count) snprintf(bearer, sizeof bearer, "Authorization: Bearer %s\r\n", keys[asked % key_count]);
    length = snprintf(out, sizeof out,
        "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s%sContent-Length: %d\r\n\r\n%s",
        strcmp(kind, "messages") ? "/v1/chat/completions" : "/v1/messages", bearer, more_fields, length, body);
    c->busy = 1;
    c->due = due;
    c->asked = now();
    c->first = 0;
    if (send(c->fd, out, length, MSG_NOSIGNAL) != length) fail("send");
}

static int more(double at) { return count ? asked < count : at - begun < seconds_wanted; }

static void done(struct connection *c, int bad) {
    double at = now();
    answered++;
    if (bad) errors++;
    if (samples < MAX_SAMPLES) latency[samples++] = (float)((at - c->due) * 1e6);
    if (c->first && firsts < MAX_SAMPLES) first_chunk[firsts++] = (float)((c->first - c->asked) * 1e6);
    c->busy = c->used = 0;
    if (rate) {
        if (next_due <= at && more(next_due)) { ask(c, next_due); next_due += gap(); }
    } else if (more(at)) ask(c, at);
}

/* A whole answer is in `in`? Its length is told in the header. */
static void take_whole(struct connection *c) {
    c->in[c->used] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL) return;
    char *field = strcasestr(c->in, "content-length:");
    int length = field && field < end ? atoi(field + 15) : -1;
    if (length < 0) {            /* chunked */
        if (memcmp(c->in + c->used - 5, "0\r\n\r\n", 5)) return;
    } else if (c->used < (int)(end - c->in) + 4 + length) return;
    int bad = strncmp(c->in, "HTTP/1.1 200", 12) != 0;
    if (bad && errors < 3) fprintf(stderr, "%.600s\n", c->in);
    done(c, bad);
}

/* Counts the chunks of what came, and keeps what may be the beginning of one. */
static void take_stream(struct connection *c) {
    static const char mark[] = "\"delta\"";
    c->in[c->used] = 0;
    if (c->first == 0 && strncmp(c->in, "HTTP/1.1 200", 12) && c->used >= 12) { done(c, 1); return; }
    char *from = c->in, *found;
    while ((found = memmem(from, c->in + c->used - from, mark, sizeof mark - 1))) {
        chunks++;
        if (c->first == 0) c->first = now();
        from = found + sizeof mark - 1;
    }
    if (memmem(c->in, c->used, "[DONE]", 6)) { done(c, 0); return; }
    int left = (int)(c->in + c->used - from);
    if (c->first == 0 || left < 16) { memmove(c->in, from, left); c->used = left; return; }
    memmove(c->in, c->in + c->used - 16, 16);
    c->used = 16;
}

static void take(struct connection *c) {
    ssize_t got = recv(c->fd, c->in + c->used, IN - 1 - c->used, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        close(c->fd);
        int lost = c->busy;
        dial(c);
        if (lost) done(c, 1);
        return;
    }
    c->used += got;
    if (streaming) take_stream(c); else take_whole(c);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double at_share(float *values, long number, double share) {
    if (number == 0) return 0;
    qsort(values, number, sizeof *values, by_value);
    return values[(long)((number - 1) * share)];
}

static void read_keys(const char *given) {
    keys = calloc(1 << 20, sizeof *keys);
    if (*given != '@') { keys[key_count++] = strdup(given); return; }
    char line[256];
    FILE *file = fopen(given + 1, "r");
    if (file == NULL) fail(given + 1);
    while (fgets(line, sizeof line, file)) { line[strcspn(line, "\n")] = 0; keys[key_count++] = strdup(line); }
    fclose(file);
}

/* Sleeps until an answer comes or the next request is due, to the microsecond: the provider shares this core. */
static void rest(double at) {
    double left = rate && more(next_due) ? next_due - at : 0.2;
    left = left < 0 ? 0 : left > 0.2 ? 0.2 : left;
    struct timespec pause = {0, (long)(left * 1e9)};
    struct pollfd watched = {.fd = poll_fd, .events = POLLIN};
    ppoll(&watched, 1, &pause, NULL);
}

static void run(void) {
    struct epoll_event events[512];
    double last_progress = now();
    long before = 0;
    for (;;) {
        double at = now();
        int busy = 0;
        for (int i = 0; rate && i < connections && next_due <= at && more(next_due); i++)
            if (!table[i].busy) { ask(&table[i], next_due); next_due += gap(); }
        if (!more(rate ? next_due : at)) {
            for (int i = 0; i < connections && !busy; i++) busy = table[i].busy;
            if (!busy) return;
        }
        rest(now());
        int ready = epoll_wait(poll_fd, events, 512, 0);
        for (int i = 0; i < ready; i++) take(events[i].data.ptr);
        if (answered + chunks != before) { before = answered + chunks; last_progress = at; }
        if (at - last_progress > 60) { fprintf(stderr, "no answer for a minute\n"); exit(1); }
    }
}

int main(int argument_count, char **arguments) {
    int option;
    while ((option = getopt(argument_count, arguments, "p:c:t:n:r:k:s:a:H:")) != -1) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'c': connections = atoi(optarg); break;
        case 't': seconds_wanted = atof(optarg); break;
        case 'n': count = atol(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'k': kind = optarg; break;
        case 's': salt = optarg; break;
        case 'a': read_keys(optarg); break;
        case 'H': strncat(more_fields, optarg, 400); strcat(more_fields, "\r\n"); break;
        default: return 2;
    }
    if (!port || connections < 1 || (!count && seconds_wanted <= 0)) { fprintf(stderr, "see load.c\n"); return 2; }
    struct rlimit files = {connections + 64, connections + 64}, had;
    getrlimit(RLIMIT_NOFILE, &had);
    if (had.rlim_cur < files.rlim_cur) { files.rlim_max = had.rlim_max; setrlimit(RLIMIT_NOFILE, &files); }
    streaming = !strcmp(kind, "stream");
    srand48(1);
    prctl(PR_SET_TIMERSLACK, 1);
    latency = malloc(MAX_SAMPLES * sizeof *latency);
    first_chunk = malloc(MAX_SAMPLES * sizeof *first_chunk);
    table = calloc(connections, sizeof *table);
    poll_fd = epoll_create1(0);
    for (int i = 0; i < connections; i++) dial(&table[i]);
    begun = now();
    next_due = begun;
    if (!rate) for (int i = 0; i < connections && more(begun); i++) ask(&table[i], now());
    run();
    double spent = now() - begun;
    printf("{\"requests\":%ld,\"errors\":%ld,\"seconds\":%.6f,\"p50_us\":%.1f,\"p99_us\":%.1f", answered, errors, spent,
        at_share(latency, samples, 0.5), at_share(latency, samples, 0.99));
    if (streaming) printf(",\"chunks\":%ld,\"first_ms\":%.3f", chunks, at_share(first_chunk, firsts, 0.5) / 1e3);
    printf("}\n");
    return 0;
}
