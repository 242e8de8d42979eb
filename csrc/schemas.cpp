// Every operator of the package: its name, its arguments, what it returns. Kernels register
// themselves in cpu/ and cuda/; shapes and formulas stand in mfgan/ops/.
#include <torch/csrc/stable/library.h>

// The emulated GPU's ops live beside the real ones, in a namespace of their own.
#ifndef MFGAN_NAMESPACE
#define MFGAN_NAMESPACE mfgan
#endif
#define MFGAN_OPS(name, m) STABLE_TORCH_LIBRARY(name, m)

// `rng` is (2,) int64 [seed, offset] on the device of the data, `site` the place that draws; a
// dropout mask follows from these and the element's index alone (rng.h).
MFGAN_OPS(MFGAN_NAMESPACE, m) {
  // q, k, v (total_tokens, num_heads, head_dim); lse (num_heads, total_tokens), float32 or wider.
  // distance_bias (num_heads, num_distances) is added to the logit of a key `d` tokens from its
  // query, at index min(d, num_distances - 1); its gradient is (0, 0) where there is none.
  // `allow_tf32` lets float32 products round their factors to TF32 where a device has that.
  m.def(
      "varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, SymInt max_seqlen, "
      "Tensor? distance_bias, Tensor? rng, *, bool causal, float scale, float dropout_p, int site, "
      "bool allow_tf32=False) -> (Tensor out, Tensor lse)");
  m.def(
      "varlen_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, "
      "Tensor lse, Tensor cu_seqlens, SymInt max_seqlen, Tensor? distance_bias, Tensor? rng, *, "
      "bool causal, float scale, float dropout_p, int site, bool allow_tf32=False) "
      "-> (Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor grad_distance_bias)");

  // residual + dropout(x), both (num_rows, num_columns); backward gives the gradient of x.
  m.def(
      "dropout_residual(Tensor x, Tensor? residual, Tensor rng, *, float dropout_p, int site) "
      "-> Tensor");
  m.def(
      "dropout_residual_backward(Tensor grad_out, Tensor rng, *, float dropout_p, int site) "
      "-> Tensor");

  // residual + dropout(activation(norm(x) weight^T + bias)): x (num_rows, num_in), weight (num_out,
  // num_in); layer norm with both norm tensors, by the root of the mean square with norm_weight
  // alone; activation 0 none, 1 ReLU, 2 GELU (tanh). `before` is what the activation was of, empty
  // without one. Gradients of what was not given are empty.
  m.def(
      "dense(Tensor x, Tensor weight, Tensor? bias, Tensor? norm_weight, Tensor? norm_bias, "
      "Tensor? residual, Tensor? rng, *, float eps, int activation, float dropout_p, int site) "
      "-> (Tensor out, Tensor before)");
  m.def(
      "dense_backward(Tensor grad_out, Tensor x, Tensor weight, Tensor? bias, Tensor? norm_weight, "
      "Tensor? norm_bias, Tensor before, Tensor? rng, *, float eps, int activation, "
      "float dropout_p, int site) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");

  // x[t] + sum_d taps[d] x[t - d] within each session: x (total_tokens, width), taps (num_taps,
  // width); backward gives the gradients of both.
  m.def("causal_convolution(Tensor x, Tensor taps, Tensor cu_seqlens) -> Tensor");
  m.def(
      "causal_convolution_backward(Tensor grad_out, Tensor x, Tensor taps, Tensor cu_seqlens) "
      "-> (Tensor grad_x, Tensor grad_taps)");

  // utilities (num_rows,), displayed sets laid end to end; offsets (num_sets + 1,) int64. Gives
  // (num_sets,), float32 or wider: log(1 + sum exp) with the option of no click, else log sum exp.
  m.def("choice_logsumexp(Tensor utilities, Tensor offsets, *, bool no_click) -> Tensor");
  m.def(
      "choice_logsumexp_backward(Tensor grad_out, Tensor utilities, Tensor offsets, Tensor lse) "
      "-> Tensor");

  // Rows of logits (num_rows, num_columns) become their softmax. Log-probabilities of the columns
  // in choices (num_rows, num_choices) int64, in that shape, and entropy (num_rows,), float32 or
  // wider.
  m.def("softmax_choices(Tensor(a!) logits, Tensor choices) -> (Tensor log_probs, Tensor entropy)");

  // Writes `value` into the scores (num_rows, num_items) of what the session of each row's token
  // has had: items (total_tokens,) up to the token, and earlier (n,) in ragged rows, one a session.
  // Column c is item c + 1; the item `kept` (num_rows,) keeps its score, 0 for none.
  m.def(
      "hide_seen(Tensor(a!) scores, Tensor tokens, Tensor kept, Tensor items, Tensor cu_seqlens, "
      "Tensor earlier, Tensor earlier_offsets, float value) -> ()");

  // Sums (num_positions, num_candidates, 9) of the entries [history item, candidate] of a matrix by
  // rows, offsets (num_items + 2,), columns and values (n,), over spans of the distance from the
  // history's end: 0, 1, 2, 3, 4-7, 8-15, 16-31, 32-63, and beyond.
  m.def(
      "relation_sums(Tensor offsets, Tensor columns, Tensor values, Tensor items, "
      "Tensor cu_seqlens, Tensor positions, Tensor candidates, int max_history) -> Tensor");

  // Adds to scores (num_positions, num_items), column c being item c + 1, the sums over the history
  // of those entries, times the weight (9,) of their span. Projections (num_positions, 9) are the
  // sums over items of numbers times entries, which is the gradient of the weights by position.
  m.def(
      "add_relation_scores(Tensor(a!) scores, Tensor offsets, Tensor columns, Tensor values, "
      "Tensor items, Tensor cu_seqlens, Tensor positions, Tensor weight, int max_history) -> ()");
  m.def(
      "relation_projections(Tensor numbers, Tensor offsets, Tensor columns, Tensor values, "
      "Tensor items, Tensor cu_seqlens, Tensor positions, int max_history) -> Tensor");

  // Logits (num_positions, num_candidates, num_factors) of candidates after prefixes of packed
  // sessions; backward gives the gradients of the floating tensors, in their order. `allow_tf32` as
  // above.
  m.def(
      "factor_score(Tensor query, Tensor key, Tensor value, Tensor residual, Tensor position_key, "
      "Tensor position_value, Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias, "
      "Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight, Tensor head_bias, "
      "Tensor history_rows, Tensor candidate_rows, Tensor positions, Tensor cu_seqlens, "
      "int max_history, Tensor? rng, *, int num_heads, float dropout_p, int site, "
      "bool allow_tf32=False) -> Tensor");
  m.def(
      "factor_score_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, "
      "Tensor residual, Tensor position_key, Tensor position_value, Tensor out_weight, "
      "Tensor ff1_weight, Tensor ff1_bias, Tensor ff2_weight, Tensor ff2_bias, "
      "Tensor head_weight, Tensor head_bias, Tensor history_rows, Tensor candidate_rows, "
      "Tensor positions, Tensor cu_seqlens, int max_history, Tensor? rng, *, int num_heads, "
      "float dropout_p, int site, bool allow_tf32=False) -> (Tensor, Tensor, Tensor, Tensor, "
      "Tensor, "
      "Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}
