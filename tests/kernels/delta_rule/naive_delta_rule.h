// The gated delta rule token by token in double, and its gradients by going back through the tokens: the oracle of the
// chunked kernels, written from the recurrence alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/delta_rule/gated_delta_rule.h"

namespace ksa::testing {

// One sequence of one value head.
struct NaiveDeltaRule {
  NaiveDeltaRule(int64_t key_dim, int64_t value_dim) : dk(key_dim), dv(value_dim) {}

  int64_t dk;
  int64_t dv;
  std::vector<std::vector<double>> q, k, v;  // a vector a token
  std::vector<double> g, beta;
  std::vector<bool> starts;           // a document
  std::vector<bool> padding;          // leaves the state as it is
  std::vector<double> initial_state;  // [dk, dv], of the document that goes on; zeros elsewhere

  std::vector<std::vector<double>> out;
  std::vector<double> final_state;

  std::vector<std::vector<double>> dout;
  std::vector<double> dfinal_state;

  std::vector<std::vector<double>> dq, dk_rows, dv_rows;
  std::vector<double> dg, dbeta, dinitial_state;

  void Forward() {
    states_.assign(1, initial_state);
    out.clear();
    for (size_t t = 0; t < g.size(); ++t) {
      std::vector<double> s = Before(t);
      if (!padding[t]) {
        const std::vector<double> predicted = Predict(s, k[t]);
        for (int64_t i = 0; i < dk; ++i) {
          for (int64_t j = 0; j < dv; ++j) {
            s[At(i, j)] += k[t][Z(i)] * beta[t] * (v[t][Z(j)] - predicted[Z(j)]);
          }
        }
      }
      std::vector<double> o = Predict(s, q[t]);
      for (double& x : o) {
        x *= padding[t] ? 0.0 : 1.0 / std::sqrt(static_cast<double>(dk));
      }
      out.push_back(o);
      states_.push_back(s);
    }
    final_state = states_.back();
  }

  // After Forward.
  void Backward() {
    const size_t tokens = g.size();
    dq.assign(tokens, std::vector<double>(Z(dk), 0.0));
    dk_rows = dq;
    dv_rows.assign(tokens, std::vector<double>(Z(dv), 0.0));
    dg.assign(tokens, 0.0);
    dbeta.assign(tokens, 0.0);
    std::vector<double> ds = dfinal_state;
    for (size_t t = tokens; t-- > 0;) {
      if (!padding[t]) {
        BackwardToken(t, ds);
      }
      if (starts[t]) {
        ds.assign(ds.size(), 0.0);
      }
    }
    dinitial_state = ds;
  }

 private:
  static size_t Z(int64_t i) { return static_cast<size_t>(i); }

  [[nodiscard]] size_t At(int64_t i, int64_t j) const { return Z(i * dv + j); }

  // The decayed state that token t finds.
  [[nodiscard]] std::vector<double> Before(size_t t) const {
    std::vector<double> s = states_[t];
    for (double& x : s) {
      x *= starts[t] ? 0.0 : (padding[t] ? 1.0 : std::exp(g[t]));
    }
    return s;
  }

  [[nodiscard]] std::vector<double> Predict(const std::vector<double>& s, const std::vector<double>& key) const {
    std::vector<double> y(Z(dv), 0.0);
    for (int64_t i = 0; i < dk; ++i) {
      for (int64_t j = 0; j < dv; ++j) {
        y[Z(j)] += s[At(i, j)] * key[Z(i)];
      }
    }
    return y;
  }

  // ds: of the state after the token, then of the one before it.
  void BackwardToken(size_t t, std::vector<double>& ds) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(dk));
    const std::vector<double>& after = states_[t + 1];
    const std::vector<double> before = Before(t);
    const std::vector<double> predicted = Predict(before, k[t]);
    for (int64_t i = 0; i < dk; ++i) {
      for (int64_t j = 0; j < dv; ++j) {
        dq[t][Z(i)] += scale * after[At(i, j)] * dout[t][Z(j)];
        ds[At(i, j)] += scale * q[t][Z(i)] * dout[t][Z(j)];
      }
    }
    const std::vector<double> du = Predict(ds, k[t]);
    for (int64_t j = 0; j < dv; ++j) {
      const double e = v[t][Z(j)] - predicted[Z(j)];
      dv_rows[t][Z(j)] = beta[t] * du[Z(j)];
      dbeta[t] += du[Z(j)] * e;
      for (int64_t i = 0; i < dk; ++i) {
        dk_rows[t][Z(i)] += ds[At(i, j)] * beta[t] * e - before[At(i, j)] * beta[t] * du[Z(j)];
      }
    }
    for (int64_t i = 0; i < dk; ++i) {
      for (int64_t j = 0; j < dv; ++j) {
        double& x = ds[At(i, j)];
        x -= k[t][Z(i)] * beta[t] * du[Z(j)];
        dg[t] += x * before[At(i, j)];
        x *= starts[t] ? 0.0 : std::exp(g[t]);
      }
    }
  }

  std::vector<std::vector<double>> states_;  // after t tokens
};

}  // namespace ksa::testing
