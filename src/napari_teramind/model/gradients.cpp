// Gradients of the loops of kernels.cpp, which go to the parts that a row was made of.
//
// A part at half of y and x takes the sum of four pixels: where there is one, pixels come in
// squares of 2 x 2, otherwise one by one.

#include "kernels.h"

namespace {

template <class T>
inline void load_row(const T* p, int64_t channels, float* row) {
  const int64_t whole = channels / W * W, rest = channels - whole;
  for (int64_t c = 0; c < whole; c += W) store(row + c, load(p + c));
  if (rest) store(row + whole, load_some(p + whole, rest));
}

// One tensor, or planes of x + y, y and x.
template <class T>
struct Incoming {
  const T* planes[3];

  void read(int64_t pixel, const Shape& s, int64_t wide, float* rows) const {
    if (!planes[1]) {
      for (int64_t m = 0; m < s.slices; ++m)
        load_row(planes[0] + (pixel * s.slices + m) * s.channels, s.channels, rows + m * wide);
      return;
    }
    const int64_t at = pixel * s.channels;
    for (int64_t c = 0; c < s.channels; c += W) {
      const int64_t rest = s.channels - c;
      const auto get = [&](int i) {
        const T* p = planes[i] + at + c;
        return rest < W ? load_some(p, rest) : load(p);
      };
      const Floats both = get(0);
      store(rows + c, both + get(2));
      store(rows + wide + c, both + get(1));
    }
  }
};

// Adds rows to nothing: every part is written once, by whoever has its pixel.
template <class T>
inline void scatter(
    const Source* parts, int64_t count, bool halved, int64_t pixel, const float* rows,
    int64_t slices, int64_t wide, float* sum) {
  for (const Source* to = parts; to < parts + count; ++to) {
    if (static_cast<bool>(to->halved) != halved) continue;
    T* p = static_cast<T*>(to->data) + pixel * to->pixel_step;
    const float* row = rows + to->offset;
    if (to->slice_step) {
      for (int64_t m = 0; m < slices; ++m)
        store_row(p + m * to->slice_step, row + m * wide, to->channels);
      continue;
    }
    // One for all slices.
    for (int64_t c = 0; c < to->channels; c += W) {
      Floats v = load(row + c);
      for (int64_t m = 1; m < slices; ++m) v += load(row + m * wide + c);
      store(sum + c, v);
    }
    store_row(p, sum, to->channels);
  }
}

// Goes through the pixels of `step` lines; make(pixel, rows) gives their rows, which parts take.
template <class T, class F>
inline void scatter_lines(
    const Source* parts, int64_t count, const Shape& s, int64_t step, int64_t first_line,
    float* rows, float* square, float* sum, const F& make) {
  const int64_t wide = padded(s.channels) + W, size = s.slices * wide;
  for (int64_t x0 = 0; x0 < s.width; x0 += step) {
    if (step == 2) std::memset(square, 0, size * sizeof(float));
    for (int64_t i = 0; i < step * step; ++i) {
      const int64_t pixel = (first_line + i / step) * s.width + x0 + i % step;
      make(pixel, rows);
      scatter<T>(parts, count, false, pixel, rows, s.slices, wide, sum);
      if (step == 2)
        for (int64_t c = 0; c < size; c += W) store(square + c, load(square + c) + load(rows + c));
    }
    if (step == 2)
      scatter<T>(
          parts, count, true, (first_line / 2) * (s.width / 2) + x0 / 2, square, s.slices, wide,
          sum);
  }
}

// What a thread works with: three sets of rows, of which `spare` values of any row are never used.
struct Rows {
  std::vector<float> memory;
  int64_t wide, size;

  explicit Rows(const Shape& s, int64_t more)
      : memory((3 * s.slices + 1 + more) * (padded(s.channels) + W), 0.f),
        wide(padded(s.channels) + W),
        size(s.slices * wide) {}
  float* rows() { return memory.data(); }
  float* square() { return rows() + size; }
  float* incoming() { return square() + size; }
  float* sum() { return incoming() + size; }
  float* more(int64_t i) { return sum() + (1 + i) * wide; }
};

// d/dy of y sigmoid(z), z = 2 u (see gelu): sigmoid + y sigmoid (1 - sigmoid) dz/dy.
inline Floats gelu_slope(Floats y) {
  constexpr float SCALE = 1.5957691216057308f;  // 2 sqrt(2 / pi)
  const Floats square = y * y;
  const Floats sigmoid = 1.f / (1.f + exp2((y + y * square * 0.044715f) * (-LOG2E * SCALE)));
  return sigmoid + y * sigmoid * (1.f - sigmoid) * (SCALE * (1.f + 3.f * 0.044715f * square));
}

struct Sums {
  float *gain, *shift;
};

// From row (x) and grad: the gradient of x, in place of grad.
template <bool SILU, bool DROP>
inline void norm_backward_row(
    const float* row, float inverse, const float* gains, const float* shifts,
    const Dropout& dropout, uint32_t key, int64_t channels, float* grad, const Sums& sums) {
  const int64_t wide = padded(channels);
  Floats product{};
  for (int64_t c = 0; c < wide; c += W) {
    const Floats n = load(row + c) * inverse;
    Floats d = load(grad + c);
    if (SILU) {
      const Floats y = n * load(gains + c) + load(shifts + c);
      const Floats sigmoid = 1.f / (1.f + exp2(y * -LOG2E));
      d *= sigmoid * (1.f + y * (1.f - sigmoid));
    }
    if (DROP) d *= dropout.factors(key, c);
    store(sums.gain + c, load(sums.gain + c) + d * n);
    store(sums.shift + c, load(sums.shift + c) + d);
    d *= load(gains + c);
    store(grad + c, d);
    product += d * n;
  }
  // d/dx of x r(x): r (dn - n mean(dn n)), where dn = d gain.
  const float mean = total(product) / channels * inverse;
  for (int64_t c = 0; c < wide; c += W)
    store(grad + c, (load(grad + c) - load(row + c) * mean) * inverse);
}

// Gradients of gain and shift add up over `step` lines, and are added up by the caller: (B,
// height / step, C).
template <class T, bool SILU, bool DROP>
void norm_backward_rows(
    const Source* sources, const Source* parts, int64_t count, const Shape& s,
    const Affine& affine, const Dropout& dropout, const Incoming<T>& incoming,
    const float* inverses, int64_t step, float* grad_gain, float* grad_shift, int threads) {
#pragma omp parallel num_threads(threads)
  {
    Rows memory(s, 4);
    const int64_t wide = memory.wide;
    float *gains = memory.more(0), *shifts = memory.more(1), *values = memory.incoming();
    const Sums sums{memory.more(2), memory.more(3)};
#pragma omp for schedule(static)
    for (int64_t block = 0; block < s.patch_rows() / step; ++block) {
      affine.copy(block * step / s.height, s.channels, gains, shifts);
      std::memset(sums.gain, 0, 2 * wide * sizeof(float));
      const auto make = [&](int64_t pixel, float* rows) {
        const int64_t line = pixel / s.width, b = line / s.height;
        incoming.read(pixel, s, wide, rows);
        for (int64_t m = 0; m < s.slices; ++m) {
          const int64_t place = pixel * s.slices + m;
          gather<T>(sources, count, s, b, line % s.height, pixel % s.width, m, values + m * wide);
          norm_backward_row<SILU, DROP>(
              values + m * wide, inverses[place], gains, shifts, dropout,
              DROP ? dropout.key(place) : 0, s.channels, rows + m * wide, sums);
        }
      };
      scatter_lines<T>(
          parts, count, s, step, block * step, memory.rows(), memory.square(), memory.sum(), make);
      std::memcpy(grad_gain + block * s.channels, sums.gain, s.channels * sizeof(float));
      std::memcpy(grad_shift + block * s.channels, sums.shift, s.channels * sizeof(float));
    }
  }
}

template <class T>
void add_backward_rows(
    const Source* parts, int64_t count, const Shape& s, const Incoming<T>& incoming, int64_t step,
    int threads) {
#pragma omp parallel num_threads(threads)
  {
    Rows memory(s, 0);
    const auto make = [&](int64_t pixel, float* rows) {
      incoming.read(pixel, s, memory.wide, rows);
    };
#pragma omp for schedule(static)
    for (int64_t block = 0; block < s.patch_rows() / step; ++block)
      scatter_lines<T>(
          parts, count, s, step, block * step, memory.rows(), memory.square(), memory.sum(), make);
  }
}

template <class T>
void gelu_backward_values(const T* x, const T* grad, T* out, int64_t count, int threads) {
  each_vector(count, threads, [=](int64_t i, int64_t rest) {
    if (rest < W)
      store_some(out + i, gelu_slope(load_some(x + i, rest)) * load_some(grad + i, rest), rest);
    else
      store(out + i, gelu_slope(load(x + i)) * load(grad + i));
  });
}

}  // namespace

#define EXPORTED(TYPE, NAME)                                                                      \
  extern "C" void norm_backward_##NAME(                                                           \
      const Source* sources, const Source* parts, int64_t count, const int64_t* shape,            \
      const float* gain, const float* shift, int64_t affine_step, int64_t activate, double share, \
      int64_t seed, const void* grad, const void* second, const void* third,                      \
      const float* inverses, int64_t step, float* grad_gain, float* grad_shift,                   \
      int64_t threads) {                                                                          \
    const auto rows = !activate   ? norm_backward_rows<TYPE, false, false>                        \
                      : share > 0 ? norm_backward_rows<TYPE, true, true>                          \
                                  : norm_backward_rows<TYPE, true, false>;                        \
    const auto planes = Incoming<TYPE>{                                                           \
        static_cast<const TYPE*>(grad), static_cast<const TYPE*>(second),                         \
        static_cast<const TYPE*>(third)};                                                         \
    rows(                                                                                         \
        sources, parts, count, shape_of(shape), Affine{gain, shift, affine_step},                 \
        Dropout(seed, share), planes, inverses, step, grad_gain, grad_shift, threads);            \
  }                                                                                               \
  extern "C" void add_backward_##NAME(                                                            \
      const Source* parts, int64_t count, const int64_t* shape, const void* grad, int64_t step,   \
      int64_t threads) {                                                                          \
    add_backward_rows<TYPE>(                                                                      \
        parts, count, shape_of(shape), Incoming<TYPE>{{static_cast<const TYPE*>(grad)}}, step,    \
        threads);                                                                                 \
  }                                                                                               \
  extern "C" void gelu_backward_##NAME(                                                           \
      const void* x, const void* grad, void* out, int64_t count, int64_t threads) {               \
    gelu_backward_values<TYPE>(                                                                   \
        static_cast<const TYPE*>(x), static_cast<const TYPE*>(grad), static_cast<TYPE*>(out),     \
        count, threads);                                                                          \
  }

EXPORTED(float, float32)
EXPORTED(BFloat16, bfloat16)
