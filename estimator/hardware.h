#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"
#include "core/result.h"
#include "core/units.h"

/// Accelerators and machines full of them that ftplan knows without having them:
/// `configs/hardware/*.json` and `configs/nodes/*.json`, inside the binary.
namespace ftplan::estimator {

/// Whose compiler and libraries a device needs.
enum class Platform : std::uint8_t { kCuda, kRocm, kHpu, kTpu, kNeuron };

/// The best attention that a device has in PyTorch; all but `eager` hold no S x S scores.
enum class AttentionKernel : std::uint8_t { kFlash, kMemoryEfficient, kEager };

/// Dense multiply-and-adds, each counted as two; left out: no units for the type, or not published.
struct Rates {
  std::optional<double> fp32, tf32, fp16, bf16, fp8, int8;
};

/// Where numbers are from.
struct FactSource {
  std::vector<std::string> of;  ///< names of the fields
  std::string from;
  bool doubtful = false;  ///< general knowledge, or derived
};

/// One device: a GPU, or the die of a module that its platform calls a device.
struct Hardware {
  std::string name;                  ///< what `--gpus` takes: `T4`
  std::vector<std::string> aliases;  ///< other spellings; letter case and `-` do not count
  std::string vendor, architecture;
  std::int64_t year = 0;
  Platform platform = Platform::kCuda;
  std::optional<std::string> compute_capability;
  std::string sold_as;  ///< what its maker calls its memory: `16 GB`
  Bytes memory_bytes;   ///< usable, as frameworks see it
  double memory_bytes_per_s = 0;
  std::optional<Rates> peak_flops_per_s;
  std::optional<Rates> measured_flops_per_s;  ///< largest that a matrix product was seen to reach
  bool native_bf16 = true;
  bool native_fp8 = false;
  AttentionKernel attention = AttentionKernel::kFlash;
  std::string link;                        ///< to other devices of its node
  std::optional<double> link_bytes_per_s;  ///< one way
  std::optional<std::string> host_link;
  std::optional<double> host_link_bytes_per_s;  ///< one way, by its clock
  std::optional<double> watts;
  std::optional<double> price_usd_per_hour;  ///< rented alone
  Bytes runtime_bytes;                       ///< contexts and loaded modules
  double runtime_interval = 0;               ///< half-width of it, as a share
  std::vector<std::string> notes;
  std::vector<FactSource> sources;
};

/// A machine with devices of one kind.
struct Node {
  std::string name;  ///< what `--gpus` takes: `g4dn.metal`
  std::vector<std::string> aliases;
  std::string device;  ///< name of its `Hardware`
  std::int64_t devices = 1;
  std::optional<Bytes> host_memory_bytes;  ///< as sold; the system takes a little of it
  std::optional<Bytes> disk_bytes;         ///< of its own, not the network's
  std::optional<std::int64_t> vcpus;
  std::optional<double> network_bytes_per_s;  ///< one way, all adapters together
  std::optional<double> price_usd_per_hour;
  std::optional<std::string> price_date;
  std::vector<std::string> notes;
  std::vector<FactSource> sources;
};

/// All entries, in the order of their files.
const std::vector<Hardware>& hardware();
const std::vector<Node>& nodes();

/// By name or alias, whatever its letter case, `-` and `_`; null when there is none.
const Hardware* find_hardware(std::string_view name);
const Node* find_node(std::string_view name);

/// The names of all devices and nodes.
std::vector<std::string> catalogue_names();
/// The known name that shares the longest part with `name` (`H100` and `A100-80GB`), else the
/// nearest in spelling.
std::string nearest_known(const std::string& name, const std::vector<std::string>& known);

/// Reads one file. Every number and capability must be named by one of its sources.
/// @error bad input that names the place
Result<Hardware> read_hardware(std::string_view json_text, const std::string& where);
Result<Node> read_node(std::string_view json_text, const std::string& where);

}  // namespace ftplan::estimator

namespace ftplan {

template <>
inline constexpr auto names<estimator::Platform> =
    std::array{Name{estimator::Platform::kCuda, "cuda"}, Name{estimator::Platform::kRocm, "rocm"},
               Name{estimator::Platform::kHpu, "hpu"}, Name{estimator::Platform::kTpu, "tpu"},
               Name{estimator::Platform::kNeuron, "neuron"}};

template <>
inline constexpr auto names<estimator::AttentionKernel> =
    std::array{Name{estimator::AttentionKernel::kFlash, "flash"},
               Name{estimator::AttentionKernel::kMemoryEfficient, "memory-efficient"},
               Name{estimator::AttentionKernel::kEager, "eager"}};

}  // namespace ftplan
