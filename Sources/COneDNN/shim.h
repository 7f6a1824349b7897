#pragma once
#include <dnnl.h>

// oneDNN is built with OpenMP; the number of threads is a property of the calling thread, so each thread that computes sets it.
void omp_set_num_threads(int);
