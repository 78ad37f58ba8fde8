// Values that are well formed and still no good: numbers that the precision cannot hold, paths and names that no system
// takes as they are meant.
#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

TEST(BadValues, NumbersAreCheckedInTheTypeThatUsesThem) {
  testing::ExpectReports({
      {"optimizer: {eps: 1e-50}\n",
       "t.yaml:2:18: optimizer.eps: 1e-50 is 0 in fp32, in which it is used; take a number from 1e-37 to 1e38"},
      {"optimizer: {eps: 1e-40}\n",  // a subnormal float
       "t.yaml:2:18: optimizer.eps: 1e-40 is 0 in fp32, in which it is used; take a number from 1e-37 to 1e38"},
      {"optimizer: {lr: 1e39}\n",
       "t.yaml:2:17: optimizer.lr: 1e+39 is infinite in fp32, in which it is used; take a number from 1e-37 to 1e38"},
      {"optimizer: {betas: [0.9, 0.99999999999]}\n",
       "t.yaml:2:20: optimizer.betas: 0.99999999999 is 1 in fp32, in which it is used; take a smaller one"},
      {"model: {rms_norm_eps: 1e-46}\n",
       "t.yaml:2:23: model.rms_norm_eps: 1e-46 is 0 in fp32, in which it is used; take a number from 1e-37 to 1e38"},
      {"model: {initializer_range: 1e39}\n",
       "t.yaml:2:28: model.initializer_range: 1e+39 is infinite in fp32, in which it is used; take a number from 1e-37 "
       "to 1e38"},
      {"optimizer: {eps: 1e-36, weight_decay: 0, clip_grad_norm: 0}\n", ""},
      {"optimizer: {lr: 0, min_lr: 0}\n", ""},
      {"optimizer: {eps: 1e-50, betas: [0.9, 0.99999999999]}\ntraining: {precision: fp64}\n", ""},
  });
}

TEST(BadValues, PathsDoNotBeginWithATilde) {
  const std::string advice = " begins with ~, which only shells replace; write the whole path, or ./";
  testing::ExpectReports({
      {"run: {dir: ~/r}\n", "t.yaml:2:12: run.dir: '~/r'" + advice + "~/r if the folder is called so"},
      {"run: {dir: '~'}\n", "t.yaml:2:12: run.dir: '~'" + advice + "~ if the folder is called so"},
      {"data: {train: [{path: ~me/a}]}\n",
       "t.yaml:2:23: data.train[0].path: '~me/a'" + advice + "~me/a if the folder is called so"},
      {"data: {validation: [{path: ~/v}]}\n",
       "t.yaml:2:28: data.validation[0].path: '~/v'" + advice + "~/v if the folder is called so"},
      {"checkpoint: {resume: ~/c}\n",
       "t.yaml:2:22: checkpoint.resume: '~/c'" + advice + "~/c if the folder is called so"},
      {"checkpoint: {load: ~/c}\n", "t.yaml:2:20: checkpoint.load: '~/c'" + advice + "~/c if the folder is called so"},
      {"run: {dir: ./~r}\n", ""},
      {"run: {dir: a/~/b}\n", ""},
      {"run: {name: ~x}\n",
       "t.yaml:2:13: run.name: must be usable as a folder name, got '~x'; remove '/' and a '~' in front"},
  });
}

TEST(BadValues, NamesEndWhereTheyEnd) {
  testing::ExpectReports({
      {"run: {name: \"x\\0y\"}\n", "t.yaml:2:13: run.name: holds a zero byte, where names and paths end; remove it"},
      {"run: {dir: \"x\\0y\"}\n", "t.yaml:2:12: run.dir: holds a zero byte, where names and paths end; remove it"},
      {"run: {name: " + std::string(255, 'n') + "}\n", ""},
      {"run: {name: " + std::string(256, 'n') + "}\n",
       "t.yaml:2:13: run.name: a folder's name has at most 255 bytes, this has 256; shorten it"},
  });
}

TEST(BadValues, KeysOfARunsLife) {
  testing::ExpectReports({
      {"run: {max_wall_minutes: 0}\n",
       "t.yaml:2:25: run.max_wall_minutes: must be greater than 0 and less than 10000000, got 0"},
      {"run: {max_wall_minutes: 0.5}\n", ""},
      {"run: {max_wall_minutes: none}\n", ""},
      {"checkpoint: {retries: -1}\n", "t.yaml:2:23: checkpoint.retries: must be at least 0, got -1"},
      {"checkpoint: {retries: 0}\n", ""},
  });
}

}  // namespace
}  // namespace ksa
