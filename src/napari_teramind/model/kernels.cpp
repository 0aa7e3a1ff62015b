// Loops of the network on a CPU that torch's operations take several passes over memory for.
//
// Compiled on the machine that runs them (native.py). Vectors are the compilers' own extension, so
// that one text serves every processor. Every position is computed by itself, in a fixed order:
// results depend neither on the number of threads nor on how positions are cut into calls.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t W = 16;
typedef float Floats __attribute__((vector_size(4 * W)));
typedef int32_t Ints __attribute__((vector_size(4 * W)));
typedef uint32_t Words __attribute__((vector_size(4 * W)));
typedef uint16_t Halves __attribute__((vector_size(2 * W)));

struct BFloat16 {
  uint16_t bits;
};

inline Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline Floats load(const BFloat16* p) {
#ifdef __AVX512BW__  // compilers make five instructions of what follows
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
#else
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return (Floats)(__builtin_convertvector(h, Words) << 16);
#endif
}

inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline void store(BFloat16* p, Floats v) {
#ifdef __AVX512BF16__
  const __m256bh h = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(p, &h, sizeof h);
#else
  Words bits = (Words)v;
  bits += 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
#ifdef __AVX512BW__
  const __m256i h = _mm512_cvtepi32_epi16((__m512i)(bits >> 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), h);
#else
  const Halves h = __builtin_convertvector(bits >> 16, Halves);
  std::memcpy(p, &h, sizeof h);
#endif
#endif
}

// The first `count` of W values, fewer than W; the others are read as 0, and not written.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
inline __mmask16 first(int64_t count) { return (__mmask16)((1u << count) - 1); }

inline Floats load_some(const float* p, int64_t count) {
  return (Floats)_mm512_maskz_loadu_ps(first(count), p);
}

inline Floats load_some(const BFloat16* p, int64_t count) {
  const __m256i h = _mm256_maskz_loadu_epi16(first(count), p);
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
}

inline void store_some(float* p, Floats v, int64_t count) {
  _mm512_mask_storeu_ps(p, first(count), (__m512)v);
}

inline void store_some(BFloat16* p, Floats v, int64_t count) {
  BFloat16 part[W];
  store(part, v);
  _mm256_mask_storeu_epi16(
      p, first(count), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(part)));
}
#else
template <class T>
inline Floats load_some(const T* p, int64_t count) {
  T part[W] = {};
  std::memcpy(part, p, count * sizeof(T));
  return load(part);
}

template <class T>
inline void store_some(T* p, Floats v, int64_t count) {
  T part[W];
  store(part, v);
  std::memcpy(p, part, count * sizeof(T));
}
#endif

template <class T>
inline void store_row(T* out, const float* row, int64_t channels) {
  const int64_t whole = channels / W * W;
  for (int64_t c = 0; c < whole; c += W) store(out + c, load(row + c));
  if (whole < channels) store_some(out + whole, load(row + whole), channels - whole);
}

inline float total(Floats v) {
#ifdef __AVX512BW__
  return _mm512_reduce_add_ps((__m512)v);
#else
  float part[W];
  std::memcpy(part, &v, sizeof part);
  for (int64_t n = W / 2; n > 0; n /= 2)
    for (int64_t i = 0; i < n; ++i) part[i] += part[i + n];
  return part[0];
#endif
}

// 2^z for |z| <= 126 to 1e-7: Cephes' polynomial of the fraction, the whole part put into the
// exponent.
inline Floats exp2(Floats z) {
  constexpr float MAGIC = 12582912.f;  // 1.5 * 2^23: adding it rounds to whole numbers
  z = z > 126.f ? Floats{} + 126.f : z;
  z = z < -126.f ? Floats{} - 126.f : z;
  const Floats shifted = z + MAGIC;
  const Floats r = z - (shifted - MAGIC);
  Floats p = r * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.f;
  return (Floats)((Ints)p + ((Ints)shifted << 23));
}

constexpr float LOG2E = 1.44269504088896341f;

inline Floats silu(Floats y) { return y / (1.f + exp2(y * -LOG2E)); }

inline Floats gelu(Floats y) {
  // tanh form: y (1 + tanh(u)) / 2 = y sigmoid(2 u), u = sqrt(2 / pi) (y + 0.044715 y^3)
  constexpr float SLOPE = -LOG2E * 1.5957691216057308f;
  return y / (1.f + exp2((y + y * y * y * 0.044715f) * SLOPE));
}

int64_t padded(int64_t channels) { return (channels + W - 1) / W * W; }

struct Shape {
  int64_t batch, height, width, slices, channels;
  int64_t patch_rows() const { return batch * height; }
};

}  // namespace

// A tensor whose values are part of a row of channels. Values at one place add up.
struct Source {
  const void* data;
  int64_t slice_step, pixel_step;  // values from slice to slice, from pixel to pixel
  int64_t channels, offset;        // how many, and where they are in the row
  int64_t halved;                  // 1: at half the height and width, each pixel counts four times
  int64_t adds;                    // 1: earlier sources gave values to the same places
};

namespace {

template <class T>
inline void gather(
    const Source* sources, int64_t count, const Shape& s, int64_t b, int64_t y, int64_t x,
    int64_t m, float* row) {
  for (const Source* from = sources; from < sources + count; ++from) {
    const int64_t pixel = from->halved
        ? (b * (s.height / 2) + y / 2) * (s.width / 2) + x / 2
        : (b * s.height + y) * s.width + x;
    const T* p =
        static_cast<const T*>(from->data) + pixel * from->pixel_step + m * from->slice_step;
    float* to = row + from->offset;
    const int64_t whole = from->channels / W * W, rest = from->channels - whole;
    if (from->adds) {
      for (int64_t c = 0; c < whole; c += W) store(to + c, load(to + c) + load(p + c));
      if (rest) store_some(to + whole, load_some(to + whole, rest) + load_some(p + whole, rest), rest);
    } else {
      for (int64_t c = 0; c < whole; c += W) store(to + c, load(p + c));
      if (rest) store_some(to + whole, load_some(p + whole, rest), rest);
    }
  }
}

inline float inverse_rms(const float* row, int64_t channels) {
  Floats squares{};
  for (int64_t c = 0; c < padded(channels); c += W) {
    const Floats v = load(row + c);
    squares += v * v;
  }
  return 1.f / std::sqrt(total(squares) / channels + 1e-6f);
}

template <bool SILU>
inline Floats mapped(Floats x, float inverse, const float* gain, const float* shift) {
  const Floats y = x * inverse * load(gain) + load(shift);
  return SILU ? silu(y) : y;
}

template <class T, bool SILU>
inline void write_row(
    const float* row, float inverse, const float* gains, const float* shifts, int64_t channels,
    T* out) {
  const int64_t whole = channels / W * W, rest = channels - whole;
  for (int64_t c = 0; c < whole; c += W)
    store(out + c, mapped<SILU>(load(row + c), inverse, gains + c, shifts + c));
  if (rest)
    store_some(
        out + whole, mapped<SILU>(load(row + whole), inverse, gains + whole, shifts + whole), rest);
}

// Two slices x, y as x + y, y and x, in planes of their own.
template <class T, bool SILU>
inline void write_planes(
    const float* rows, int64_t wide, const float* inverses, const float* gains,
    const float* shifts, int64_t channels, T* out, int64_t plane) {
  for (int64_t c = 0; c < wide; c += W) {
    const Floats x = mapped<SILU>(load(rows + c), inverses[0], gains + c, shifts + c);
    const Floats y = mapped<SILU>(load(rows + wide + c), inverses[1], gains + c, shifts + c);
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

struct Affine {
  const float *gain, *shift;  // (B or 1, C); shift may be null
  int64_t step;               // C, or 0 for one row for all patches

  void copy(int64_t b, int64_t channels, float* gains, float* shifts) const {
    std::memcpy(gains, gain + b * step, channels * sizeof(float));
    if (shift) std::memcpy(shifts, shift + b * step, channels * sizeof(float));
  }
};

template <class T, bool SILU>
void norm_rows(
    const Source* sources, int64_t count, const Shape& s, const Affine& map, bool planes, T* out,
    float* kept, int threads) {
  const int64_t wide = padded(s.channels), plane = s.patch_rows() * s.width * s.channels;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> memory((s.slices + 2) * wide, 0.f), inverses(s.slices);
    float *rows = memory.data(), *gains = rows + s.slices * wide, *shifts = gains + wide;
    int64_t patch = -1;
#pragma omp for schedule(static)
    for (int64_t line = 0; line < s.patch_rows(); ++line) {
      const int64_t b = line / s.height, y = line % s.height;
      if (b != patch) map.copy(patch = b, s.channels, gains, shifts);
      for (int64_t x = 0; x < s.width; ++x) {
        const int64_t pixel = line * s.width + x;
        for (int64_t m = 0; m < s.slices; ++m) {
          gather<T>(sources, count, s, b, y, x, m, rows + m * wide);
          inverses[m] = inverse_rms(rows + m * wide, s.channels);
          if (kept) kept[pixel * s.slices + m] = inverses[m];
        }
        if (planes) {
          write_planes<T, SILU>(
              rows, wide, inverses.data(), gains, shifts, s.channels, out + pixel * s.channels,
              plane);
          continue;
        }
        for (int64_t m = 0; m < s.slices; ++m)
          write_row<T, SILU>(
              rows + m * wide, inverses[m], gains, shifts, s.channels,
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
inline void norm_backward_row(
    const T* grad, const T* x, float inverse, const float* gains, const float* shifts,
    int64_t channels, float* dn, float* n, float* grad_gain, float* grad_shift, T* grad_x) {
  const int64_t whole = channels / W * W, rest = channels - whole;
  Floats product{};
  for (int64_t c = 0; c < padded(channels); c += W) {
    const bool last = c == whole;
    const Floats value = (last ? load_some(x + c, rest) : load(x + c)) * inverse;
    const Floats y = value * load(gains + c) + load(shifts + c);
    const Floats sigmoid = 1.f / (1.f + exp2(y * -LOG2E));
    const Floats slope = sigmoid * (1.f + y * (1.f - sigmoid));
    const Floats d = (last ? load_some(grad + c, rest) : load(grad + c)) * slope;
    const Floats wide = d * load(gains + c);
    store(grad_gain + c, load(grad_gain + c) + d * value);
    store(grad_shift + c, load(grad_shift + c) + d);
    store(dn + c, wide);
    store(n + c, value);
    product += wide * value;
  }
  const float mean = total(product) / channels;
  for (int64_t c = 0; c < whole; c += W)
    store(grad_x + c, (load(dn + c) - load(n + c) * mean) * inverse);
  if (rest)
    store_some(grad_x + whole, (load(dn + whole) - load(n + whole) * mean) * inverse, rest);
}

// Gradients of gain and shift add up over blocks of rows, and are added up by the caller: (B,
// blocks, C).
template <class T>
void norm_backward_rows(
    const T* grad, const T* x, const float* inverses, const Affine& map, int64_t batch,
    int64_t rows, int64_t channels, int64_t block, T* grad_x, float* grad_gain, float* grad_shift,
    int threads) {
  const int64_t wide = padded(channels), blocks = (rows + block - 1) / block;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> memory(6 * wide, 0.f);
    float *gains = memory.data(), *shifts = gains + wide, *dn = shifts + wide, *n = dn + wide;
    float *sum_gain = n + wide, *sum_shift = sum_gain + wide;
#pragma omp for schedule(static)
    for (int64_t part = 0; part < batch * blocks; ++part) {
      const int64_t b = part / blocks, first = part % blocks * block;
      const int64_t last = first + block < rows ? first + block : rows;
      map.copy(b, channels, gains, shifts);
      std::memset(sum_gain, 0, 2 * wide * sizeof(float));
      for (int64_t r = b * rows + first; r < b * rows + last; ++r)
        norm_backward_row(
            grad + r * channels, x + r * channels, inverses[r], gains, shifts, channels, dn, n,
            sum_gain, sum_shift, grad_x + r * channels);
      std::memcpy(grad_gain + part * channels, sum_gain, channels * sizeof(float));
      std::memcpy(grad_shift + part * channels, sum_shift, channels * sizeof(float));
    }
  }
}

template <class T>
void gelu_values(const T* x, T* out, int64_t count, int threads) {
  constexpr int64_t PIECE = 4096;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t last = first + PIECE < count ? first + PIECE : count;
    int64_t i = first;
    for (; i + W <= last; i += W) store(out + i, gelu(load(x + i)));
    if (i < last) store_some(out + i, gelu(load_some(x + i, last - i)), last - i);
  }
}

}  // namespace

#define EXPORTED(TYPE, NAME)                                                                      \
  extern "C" void norm_##NAME(                                                                    \
      const Source* sources, int64_t count, const int64_t* shape, const float* gain,              \
      const float* shift, int64_t step, int64_t activate, int64_t planes, void* out,              \
      float* inverses, int64_t threads) {                                                         \
    const Shape s{shape[0], shape[1], shape[2], shape[3], shape[4]};                              \
    const auto rows = activate ? norm_rows<TYPE, true> : norm_rows<TYPE, false>;                  \
    rows(                                                                                         \
        sources, count, s, Affine{gain, shift, step}, planes, static_cast<TYPE*>(out), inverses,  \
        threads);                                                                                 \
  }                                                                                               \
  extern "C" void add_##NAME(                                                                     \
      const Source* sources, int64_t count, const int64_t* shape, void* out, int64_t threads) {   \
    const Shape s{shape[0], shape[1], shape[2], shape[3], shape[4]};                              \
    add_rows<TYPE>(sources, count, s, static_cast<TYPE*>(out), threads);                          \
  }                                                                                               \
  extern "C" void norm_backward_##NAME(                                                           \
      const void* grad, const void* x, const float* inverses, const float* gain,                  \
      const float* shift, int64_t step, int64_t batch, int64_t rows, int64_t channels,            \
      int64_t block, void* grad_x, float* grad_gain, float* grad_shift, int64_t threads) {        \
    norm_backward_rows<TYPE>(                                                                     \
        static_cast<const TYPE*>(grad), static_cast<const TYPE*>(x), inverses,                    \
        Affine{gain, shift, step}, batch, rows, channels, block, static_cast<TYPE*>(grad_x),      \
        grad_gain, grad_shift, threads);                                                          \
  }                                                                                               \
  extern "C" void gelu_##NAME(const void* x, void* out, int64_t count, int64_t threads) {         \
    gelu_values<TYPE>(static_cast<const TYPE*>(x), static_cast<TYPE*>(out), count, threads);      \
  }

EXPORTED(float, float32)
EXPORTED(BFloat16, bfloat16)
