/* The class of a picture, by the network that `graphc build --c` compiled:
 *
 *     graphc build zoo:lenet5 --shapes image=1,1,28,28 --c -o liblenet5.so
 *     gcc -O2 -I. classify.c -L. -l:liblenet5.so -Wl,-rpath,'$ORIGIN' -pthread -o classify
 *     ./classify 4 < image.f32
 *
 * Reads the float32 of a picture, and classifies it in as many threads at once as the argument says; prints the scores.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "liblenet5.h"

enum { PIXELS = 28 * 28, CLASSES = 10, RUNS = 100, MOST_THREADS = 64 };

static float image[PIXELS];

struct worker {
    pthread_t thread;
    float scores[CLASSES];
    int failed;
};

static void *classify(void *argument) {
    struct worker *w = argument;
    for (int i = 0; i < RUNS && !w->failed; i++)
        w->failed = liblenet5_run(image, w->scores);
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (threads < 1 || threads > MOST_THREADS || fread(image, sizeof(float), PIXELS, stdin) != PIXELS) {
        fprintf(stderr, "usage: %s [threads] < image of %d float32\n", argv[0], PIXELS);
        return 2;
    }
    struct worker workers[MOST_THREADS] = {0};
    for (int i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, classify, &workers[i]) != 0) {
            fprintf(stderr, "can't start a thread\n");
            return 1;
        }
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].failed) {
            fprintf(stderr, "the network failed: %d\n", workers[i].failed);
            return 1;
        }
        for (int k = 0; k < CLASSES; k++)
            printf("%.9g%c", workers[i].scores[k], k + 1 < CLASSES ? ' ' : '\n');
    }
    return 0;
}
