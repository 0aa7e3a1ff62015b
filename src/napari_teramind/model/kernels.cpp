// Loops of the network on a CPU that torch's operations take several passes over memory for.
//
// Compiled on the machine that runs them (native.py). Every position is computed by itself, in a
// fixed order: results depend neither on the number of threads nor on how positions are cut into
// calls.

#include "kernels.h"

namespace {

inline Floats gelu(Floats y) {
  // tanh form: y (1 + tanh(u)) / 2 = y sigmoid(2 u), u = sqrt(2 / pi) (y + 0.044715 y^3)
  constexpr float SLOPE = -LOG2E * 1.5957691216057308f;
  return y / (1.f + exp2((y + y * y * y * 0.044715f) * SLOPE));
}

// What becomes of a row x: x * inverse * gain + shift, perhaps SiLU, perhaps dropout.
template <bool SILU, bool DROP>
struct Map {
  const float *gains, *shifts;
  const Dropout& dropout;

  Floats operator()(Floats x, float inverse, int64_t c, uint32_t key) const {
    Floats y = x * inverse * load(gains + c) + load(shifts + c);
    if (SILU) y = silu(y);
    return DROP ? y * dropout.factors(key, c) : y;
  }
};

template <class T, class M>
inline void write_row(
    const float* row, float inverse, const M& map, uint32_t key, int64_t channels, T* out) {
  const int64_t whole = channels / W * W, rest = channels - whole;
  for (int64_t c = 0; c < whole; c += W) store(out + c, map(load(row + c), inverse, c, key));
  if (rest) store_some(out + whole, map(load(row + whole), inverse, whole, key), rest);
}

// Two slices x, y as x + y, y and x, in planes of their own.
template <class T, class M>
inline void write_planes(
    const float* rows, int64_t wide, const float* inverses, const M& map, const uint32_t* keys,
    int64_t channels, T* out, int64_t plane) {
  for (int64_t c = 0; c < wide; c += W) {
    const Floats x = map(load(rows + c), inverses[0], c, keys[0]);
    const Floats y = map(load(rows + wide + c), inverses[1], c, keys[1]);
    if (c + W <= channels) {
      store(out + c, x + y);
      store(out + plane + c, y);
      store(out + 2 * plane + c, x);
    } else {
      store_some(out + c, x + y, channels - c);
      store_some(out + plane + c, y, channels - c);
      store_some(out + 2 * plane + c, x, channels - c);
    }
  }
}

template <class T, bool SILU, bool DROP>
void norm_rows(
    const Source* sources, int64_t count, const Shape& s, const Affine& affine, bool planes,
    const Dropout& dropout, T* out, float* kept, int threads) {
  const int64_t wide = padded(s.channels), plane = s.patch_rows() * s.width * s.channels;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> memory((s.slices + 2) * wide, 0.f), inverses(s.slices);
    std::vector<uint32_t> keys(s.slices, 0);
    float *rows = memory.data(), *gains = rows + s.slices * wide, *shifts = gains + wide;
    const Map<SILU, DROP> map{gains, shifts, dropout};
    int64_t patch = -1;
#pragma omp for schedule(static)
    for (int64_t line = 0; line < s.patch_rows(); ++line) {
      const int64_t b = line / s.height, y = line % s.height;
      if (b != patch) affine.copy(patch = b, s.channels, gains, shifts);
      for (int64_t x = 0; x < s.width; ++x) {
        const int64_t pixel = line * s.width + x;
        for (int64_t m = 0; m < s.slices; ++m) {
          gather<T>(sources, count, s, b, y, x, m, rows + m * wide);
          inverses[m] = inverse_rms(rows + m * wide, s.channels);
          if (kept) kept[pixel * s.slices + m] = inverses[m];
          if (DROP) keys[m] = dropout.key(pixel * s.slices + m);
        }
        if (planes) {
          write_planes(
              rows, wide, inverses.data(), map, keys.data(), s.channels, out + pixel * s.channels,
              plane);
          continue;
        }
        for (int64_t m = 0; m < s.slices; ++m)
          write_row(
              rows + m * wide, inverses[m], map, keys[m], s.channels,
              out + (pixel * s.slices + m) * s.channels);
      }
    }
  }
}

template <class T>
void add_rows(const Source* sources, int64_t count, const Shape& s, T* out, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> row(padded(s.channels), 0.f);
#pragma omp for schedule(static)
    for (int64_t line = 0; line < s.patch_rows(); ++line)
      for (int64_t x = 0; x < s.width; ++x)
        for (int64_t m = 0; m < s.slices; ++m) {
          gather<T>(sources, count, s, line / s.height, line % s.height, x, m, row.data());
          store_row(
              out + ((line * s.width + x) * s.slices + m) * s.channels, row.data(), s.channels);
        }
  }
}

template <class T>
void gelu_values(const T* x, T* out, int64_t count, int threads) {
  each_vector(count, threads, [=](int64_t i, int64_t rest) {
    if (rest < W)
      store_some(out + i, gelu(load_some(x + i, rest)), rest);
    else
      store(out + i, gelu(load(x + i)));
  });
}

}  // namespace

#define EXPORTED(TYPE, NAME)                                                                      \
  extern "C" void norm_##NAME(                                                                    \
      const Source* sources, int64_t count, const int64_t* shape, const float* gain,              \
      const float* shift, int64_t step, int64_t activate, int64_t planes, double share,           \
      int64_t seed, void* out, float* inverses, int64_t threads) {                                \
    const auto rows = !activate   ? norm_rows<TYPE, false, false>                                 \
                      : share > 0 ? norm_rows<TYPE, true, true>                                   \
                                  : norm_rows<TYPE, true, false>;                                 \
    rows(                                                                                         \
        sources, count, shape_of(shape), Affine{gain, shift, step}, planes, Dropout(seed, share), \
        static_cast<TYPE*>(out), inverses, threads);                                              \
  }                                                                                               \
  extern "C" void add_##NAME(                                                                     \
      const Source* sources, int64_t count, const int64_t* shape, void* out, int64_t threads) {   \
    add_rows<TYPE>(sources, count, shape_of(shape), static_cast<TYPE*>(out), threads);            \
  }                                                                                               \
  extern "C" void gelu_##NAME(const void* x, void* out, int64_t count, int64_t threads) {         \
    gelu_values<TYPE>(static_cast<const TYPE*>(x), static_cast<TYPE*>(out), count, threads);      \
  }

EXPORTED(float, float32)
EXPORTED(BFloat16, bfloat16)
