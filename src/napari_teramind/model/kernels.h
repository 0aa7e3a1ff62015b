// Vectors, and rows of channels that are made of parts: what kernels.cpp and gradients.cpp share.
//
// Vectors are the compilers' own extension, so that one text serves every processor.

#pragma once

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

// Calls f(i, values left) for every W-th value.
template <class F>
inline void each_vector(int64_t count, int threads, const F& f) {
  constexpr int64_t PIECE = 4096;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t last = first + PIECE < count ? first + PIECE : count;
    for (int64_t i = first; i < last; i += W) f(i, last - i);
  }
}

inline int64_t padded(int64_t channels) { return (channels + W - 1) / W * W; }

struct Shape {
  int64_t batch, height, width, slices, channels;
  int64_t patch_rows() const { return batch * height; }
};

inline Shape shape_of(const int64_t* sizes) {
  return Shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};
}

}  // namespace

// A tensor whose values are part of a row of channels. Values at one place add up.
struct Source {
  void* data;  // const but where it takes gradients
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

struct Affine {
  const float *gain, *shift;  // (B or 1, C); shift may be null
  int64_t step;               // C, or 0 for one row for all patches

  void copy(int64_t b, int64_t channels, float* gains, float* shifts) const {
    std::memcpy(gains, gain + b * step, channels * sizeof(float));
    if (shift) std::memcpy(shifts, shift + b * step, channels * sizeof(float));
  }
};

// Which values are dropped, told by their place: the same in both directions, whatever the threads.
struct Dropout {
  uint64_t seed;
  uint32_t below;  // of 2^32
  float scale;

  Dropout(int64_t seed, double share)
      : seed(seed), below(static_cast<uint32_t>(share * 4294967296.0)), scale(1. / (1. - share)) {}

  // SplitMix64's mixing of the number of a row.
  uint32_t key(int64_t row) const {
    uint64_t z = seed + static_cast<uint64_t>(row + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>(z >> 32);
  }

  // 0 or the scale for W channels from c on, by MurmurHash3's mixing.
  Floats factors(uint32_t key, int64_t c) const {
    Words h;
    for (int64_t i = 0; i < W; ++i) h[i] = static_cast<uint32_t>(c + i);
    h = h * 0x9e3779b9u + key;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    h ^= h >> 16;
    return h < below ? Floats{} : Floats{} + scale;
  }
};

}  // namespace
