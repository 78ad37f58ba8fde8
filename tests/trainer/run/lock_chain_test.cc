// The files of a lock, step by step: what a process does that was too slow.
#include "trainer/run/lock_chain.h"

#include <string>
#include <vector>

#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

std::string HolderText(const std::string& token) {
  return fmt::format("host 17 1 place {} {:020d}\n", token, 0);
}

std::vector<std::string> TokensOf(const LockChain& chain) {
  std::vector<std::string> tokens;
  for (const LockFile& file : chain.Read()) {
    tokens.push_back(file.holder.token);
  }
  return tokens;
}

using Tokens = std::vector<std::string>;

TEST(LockChain, IsOneFileWhereNobodyDied) {
  const ScratchFolder scratch;
  const LockChain chain(scratch.path());
  EXPECT_TRUE(chain.Read().empty());
  EXPECT_TRUE(chain.Take({}, HolderText("t1")));
  chain.Settle({}, HolderText("t1"));
  EXPECT_FALSE(chain.Take({}, HolderText("t2")));
  EXPECT_EQ(TokensOf(chain), Tokens{"t1"});
}

// It found t1 dead; meanwhile another one took over, and settled.
TEST(LockChain, WhoComesAfterTheNextHolderGetsNothing) {
  const ScratchFolder scratch;
  const LockChain chain(scratch.path());
  ASSERT_TRUE(chain.Take({}, HolderText("t1")));
  const std::vector<LockFile> dead = chain.Read();
  ASSERT_TRUE(chain.Take(dead, HolderText("t2")));
  EXPECT_EQ(TokensOf(chain), (Tokens{"t1", "t2"}));
  EXPECT_FALSE(chain.Take(dead, HolderText("t3"))) << "before it settled";
  chain.Settle(dead, HolderText("t2"));
  EXPECT_FALSE(chain.Take(dead, HolderText("t3"))) << "after it settled";
  EXPECT_EQ(TokensOf(chain), Tokens{"t2"});
  // And when the next holder is gone as well.
  std::filesystem::remove(scratch / "lock");
  EXPECT_FALSE(chain.Take(dead, HolderText("t3")));
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

// A holder that died while it took over is followed in the same way, and again only by one.
TEST(LockChain, GoesOnOverThoseThatDiedInBetween) {
  const ScratchFolder scratch;
  const LockChain chain(scratch.path());
  ASSERT_TRUE(chain.Take({}, HolderText("t1")));
  ASSERT_TRUE(chain.Take(chain.Read(), HolderText("t2")));
  const std::vector<LockFile> dead = chain.Read();
  ASSERT_EQ(dead.size(), 2U);
  ASSERT_TRUE(chain.Take(dead, HolderText("t3")));
  EXPECT_FALSE(chain.Take(dead, HolderText("t4")));
  chain.Settle(dead, HolderText("t3"));
  EXPECT_EQ(TokensOf(chain), Tokens{"t3"});
  EXPECT_FALSE(chain.Take(dead, HolderText("t4")));
  EXPECT_FALSE(chain.Take({dead.front()}, HolderText("t4")));
  EXPECT_EQ(TokensOf(chain), Tokens{"t3"});
  EXPECT_FALSE(std::filesystem::exists(scratch / "lock.after-t1"));
  EXPECT_FALSE(std::filesystem::exists(scratch / "lock.after-t2"));
}

// A file that was seen empty, taken for what a crash left, and filled after all by a process that had stood still.
TEST(LockChain, AFileThatIsFilledTooLateDoesNotCount) {
  const ScratchFolder scratch;
  const LockChain chain(scratch.path());
  Spill(scratch / "lock", "");
  const std::vector<LockFile> dead = chain.Read();
  ASSERT_EQ(dead.size(), 1U);
  ASSERT_TRUE(chain.Take(dead, HolderText("t2")));
  Spill(scratch / "lock", HolderText("t1"));  // keeps its inode
  EXPECT_EQ(TokensOf(chain), (Tokens{"t1", "t2"})) << "what its maker sees: it is not the last";
  EXPECT_FALSE(chain.Take({dead.front()}, HolderText("t3")));
  chain.Settle(dead, HolderText("t2"));
  EXPECT_EQ(TokensOf(chain), Tokens{"t2"});
  // The other way round: it was filled just before.
  Spill(scratch / "lock", "");
  const std::vector<LockFile> empty = chain.Read();
  Spill(scratch / "lock", HolderText("t4"));
  EXPECT_FALSE(chain.Take(empty, HolderText("t5")));
  EXPECT_EQ(TokensOf(chain), Tokens{"t4"});
}

}  // namespace
}  // namespace ksa::testing
