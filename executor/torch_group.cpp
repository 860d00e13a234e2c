#include "executor/torch_group.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/Flags.h>
#include <c10/util/intrusive_ptr.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/result.h"
#include "core/text.h"
#include "executor/transport.h"
#include "executor/verdict.h"

C10_DECLARE_int(caffe2_log_level);

namespace ftplan::executor {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// The table answers at once or is lost; it may share a machine with what keeps all cores busy.
constexpr milliseconds kAnswer{10'000};
// One attempt to reach it, between looks at whether to stop.
constexpr milliseconds kAttempt{1'000};

// Runs `work` on a thread of its own: c10d's own limits do not hold against a server that is there
// and says nothing. What never ends is left behind.
template <class Work>
auto answer_of(Work work) {
  using Answer = decltype(work());
  auto task = std::make_shared<std::packaged_task<Answer()>>(std::move(work));
  std::future<Answer> answer = task->get_future();
  std::thread([task] { (*task)(); }).detach();
  if (answer.wait_for(kAnswer) != std::future_status::ready) throw TableLost();
  try {
    return answer.get();
  } catch (const std::exception&) {
    throw TableLost();
  }
}

std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }
std::string text_of(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

class StoreTable final : public SharedTable {
 public:
  explicit StoreTable(c10::intrusive_ptr<c10d::Store> store) : store_(std::move(store)) {}

  void set(const std::string& key, const std::string& value) override {
    // Asked for again, so that it is known to have arrived.
    answer_of([store = store_, key, value] {
      store->set(key, bytes_of(value));
      return store->check({key});
    });
  }
  std::optional<std::string> find(const std::string& key) override {
    return answer_of([store = store_, key] {
      return store->check({key}) ? std::optional(text_of(store->get(key))) : std::nullopt;
    });
  }
  std::string put_if_absent(const std::string& key, const std::string& value) override {
    return answer_of([store = store_, key, value] {
      return text_of(store->compareSet(key, {}, bytes_of(value)));
    });
  }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
};

class GlooTransport final : public Transport {
 public:
  GlooTransport(c10::intrusive_ptr<c10d::ProcessGroupGloo> group, milliseconds timeout)
      : group_(std::move(group)), timeout_(timeout) {}

  [[nodiscard]] int rank() const override { return group_->getRank(); }
  [[nodiscard]] int ranks() const override { return group_->getSize(); }
  std::unique_ptr<Transfer> send(int to, std::int32_t tag,
                                 std::span<const std::byte> bytes) override {
    return begin(to, [&] {
      std::vector<at::Tensor> tensors = {
          tensor_of(const_cast<std::byte*>(bytes.data()), bytes.size())};
      return group_->send(tensors, to, tag);
    });
  }
  std::unique_ptr<Transfer> receive(int from, std::int32_t tag,
                                    std::span<std::byte> bytes) override {
    return begin(from, [&] {
      std::vector<at::Tensor> tensors = {tensor_of(bytes.data(), bytes.size())};
      return group_->recv(tensors, from, tag);
    });
  }
  void abort() override {
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    for (c10d::Work* work : pending_) work->abort();
  }

  void set_timeout(milliseconds timeout) { timeout_ = timeout; }
  [[nodiscard]] std::optional<PeerLost> lost() const {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

 private:
  class GlooTransfer final : public Transfer {
   public:
    GlooTransfer(GlooTransport& transport, int peer, c10::intrusive_ptr<c10d::Work> work)
        : transport_(transport), peer_(peer), work_(std::move(work)) {}
    ~GlooTransfer() override { transport_.forget(*work_); }
    void wait() override {
      try {
        work_->wait(transport_.timeout_);
      } catch (const std::exception& error) {
        transport_.lose(peer_, error.what());
      }
      transport_.check_running();
    }

   private:
    GlooTransport& transport_;
    int peer_;
    c10::intrusive_ptr<c10d::Work> work_;
  };

  // Bytes of any type: what Gloo can add does not matter.
  static at::Tensor tensor_of(std::byte* data, std::size_t size) {
    return at::from_blob(data, {static_cast<std::int64_t>(size)}, at::TensorOptions(at::kByte));
  }

  template <class Begin>
  std::unique_ptr<Transfer> begin(int peer, Begin begin) {
    check_running();
    try {
      auto work = begin();
      const std::lock_guard lock(mutex_);
      pending_.insert(work.get());
      return std::make_unique<GlooTransfer>(*this, peer, std::move(work));
    } catch (const std::exception& error) {
      lose(peer, error.what());
    }
  }

  void forget(c10d::Work& work) {
    const std::lock_guard lock(mutex_);
    pending_.erase(&work);
  }

  void check_running() const {
    const std::lock_guard lock(mutex_);
    if (aborted_) throw PeerLost(rank(), false, "was stopped");
  }

  [[noreturn]] void lose(int peer, std::string_view why) {
    check_running();
    const bool silent = why.find("Timed out") != std::string_view::npos ||
                        why.find("timed out") != std::string_view::npos;
    const std::string words =
        silent ? "sent nothing for " +
                     format_number(std::chrono::duration<double>(timeout_).count()) + " s"
               : "its connection was lost: it has ended, or its machine has";
    const PeerLost lost(peer, silent, words);
    const std::lock_guard lock(mutex_);
    if (!lost_) lost_ = lost;
    throw PeerLost(lost);
  }

  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  milliseconds timeout_;
  mutable std::mutex mutex_;
  std::set<c10d::Work*> pending_;
  bool aborted_ = false;
  std::optional<PeerLost> lost_;
};

class Group final : public TorchGroup {
 public:
  Group(const Membership& membership, c10::intrusive_ptr<c10d::Store> store)
      : membership_(membership),
        store_(c10::make_intrusive<c10d::PrefixStore>("ftplan/" + membership.attempt,
                                                      std::move(store))),
        table_(store_) {}
  ~Group() override { close(); }

  SharedTable& table() override { return table_; }

  Result<void> connect(milliseconds timeout) override {
    try {
      auto options = c10d::ProcessGroupGloo::Options::create(timeout);
      options->devices.push_back(
          c10d::ProcessGroupGloo::createDeviceForHostname(membership_.own_address));
      store_->setTimeout(timeout);
      transport_ = std::make_unique<GlooTransport>(
          c10::make_intrusive<c10d::ProcessGroupGloo>(store_, membership_.rank, membership_.ranks,
                                                      std::move(options)),
          timeout);
    } catch (const std::exception& error) {
      const std::string text = error.what();
      return run_failed("ranks", "cannot be connected over " + membership_.own_address + ": " +
                                     text.substr(0, text.find('\n')));
    }
    return {};
  }

  Transport& transport() override {
    FTPLAN_CHECK(transport_ != nullptr);
    return *transport_;
  }
  void set_timeout(milliseconds timeout) override {
    if (transport_) transport_->set_timeout(timeout);
  }
  [[nodiscard]] std::optional<PeerLost> lost() const override {
    return transport_ ? transport_->lost() : std::nullopt;
  }
  void close() override {
    if (!transport_) return;
    transport_->abort();
    transport_.reset();
  }

 private:
  Membership membership_;
  c10::intrusive_ptr<c10d::Store> store_;
  StoreTable table_;
  std::unique_ptr<GlooTransport> transport_;
};

c10::intrusive_ptr<c10d::Store> open_store(const Membership& membership, milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = membership.port;
  options.isServer = membership.listening.has_value();
  options.masterListenFd = membership.listening;
  options.waitWorkers = false;
  options.timeout = timeout;
  return c10::make_intrusive<c10d::TCPStore>(membership.address, options);
}

}  // namespace

Result<std::unique_ptr<TorchGroup>> TorchGroup::open(const Membership& membership,
                                                     const std::atomic<bool>* stop) {
  // Errors are told in words of our own.
  FLAGS_caffe2_log_level = 3;
  const auto end = Clock::now() + membership.join_timeout;
  while (true) {
    if (stop != nullptr && *stop)
      return Error{ErrorCode::kInterrupted, "interrupted", "before all ranks had joined"};
    const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
    try {
      auto store = open_store(membership, std::clamp(left, milliseconds{1}, kAttempt));
      return std::unique_ptr<TorchGroup>(new Group(membership, std::move(store)));
    } catch (const std::exception& error) {
      const std::string text = error.what();
      if (Clock::now() < end && !membership.listening) continue;
      return run_failed(membership.address + ":" + std::to_string(membership.port),
                        "no run is met here: " + text.substr(0, text.find('\n')));
    }
  }
}

}  // namespace ftplan::executor
