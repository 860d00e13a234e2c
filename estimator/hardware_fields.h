#pragma once

#include <tuple>

#include "core/fields.h"
#include "estimator/hardware.h"

/// The JSON form of the catalogue.
namespace ftplan {

inline constexpr Range kFlopRange{1e6, 1e18};

template <>
inline constexpr auto fields<estimator::Rates> = std::tuple{
    Field{"fp32", &estimator::Rates::fp32, "FLOP/s", kFlopRange, "Without tensor cores."},
    Field{"tf32", &estimator::Rates::tf32, "FLOP/s", kFlopRange, "f32 with short factors."},
    Field{"fp16", &estimator::Rates::fp16, "FLOP/s", kFlopRange, "16-bit, f32 sums."},
    Field{"bf16", &estimator::Rates::bf16, "FLOP/s", kFlopRange, "bf16, f32 sums."},
    Field{"fp8", &estimator::Rates::fp8, "FLOP/s", kFlopRange, "8-bit floats."},
    Field{"int8", &estimator::Rates::int8, "operations/s", kFlopRange, "8-bit integers."}};

template <>
inline constexpr auto fields<estimator::FactSource> =
    std::tuple{Field{"of", &estimator::FactSource::of, "Fields that it tells."},
               Field{"from", &estimator::FactSource::from, "Who says so."},
               Field{"doubtful", &estimator::FactSource::doubtful, "Not checked, or derived."}};

template <>
inline constexpr auto fields<estimator::Hardware> = std::tuple{
    Field{"name", &estimator::Hardware::name, "What --gpus takes."},
    Field{"aliases", &estimator::Hardware::aliases, "Other spellings."},
    Field{"vendor", &estimator::Hardware::vendor, "Maker."},
    Field{"architecture", &estimator::Hardware::architecture, "Generation."},
    Field{"year", &estimator::Hardware::year, "year", Range{2010, 2100}, "When it was sold first."},
    Field{"platform", &estimator::Hardware::platform, "Whose libraries it needs."},
    Field{"compute_capability", &estimator::Hardware::compute_capability, "As compilers name it."},
    Field{"sold_as", &estimator::Hardware::sold_as, "What its maker calls its memory."},
    Field{"memory_bytes", &estimator::Hardware::memory_bytes, "bytes", Range{1, 1e15},
          "Usable memory."},
    Field{"memory_bytes_per_s", &estimator::Hardware::memory_bytes_per_s, "bytes/s",
          Range{1e9, 1e15}, "Bandwidth of the memory."},
    Field{"peak_flops_per_s", &estimator::Hardware::peak_flops_per_s, "Dense peak by type."},
    Field{"measured_flops_per_s", &estimator::Hardware::measured_flops_per_s,
          "Largest rate that a matrix product was seen to reach."},
    Field{"native_bf16", &estimator::Hardware::native_bf16, "It has units for bf16."},
    Field{"native_fp8", &estimator::Hardware::native_fp8, "It has units for 8-bit floats."},
    Field{"attention", &estimator::Hardware::attention, "The best attention that it has."},
    Field{"link", &estimator::Hardware::link, "To other devices of its node."},
    Field{"link_bytes_per_s", &estimator::Hardware::link_bytes_per_s, "bytes/s", Range{1e8, 1e14},
          "One way."},
    Field{"host_link", &estimator::Hardware::host_link, "To the host."},
    Field{"host_link_bytes_per_s", &estimator::Hardware::host_link_bytes_per_s, "bytes/s",
          Range{1e8, 1e14}, "One way, by its clock."},
    Field{"watts", &estimator::Hardware::watts, "W", Range{1, 1e5}, "Power limit."},
    Field{"price_usd_per_hour", &estimator::Hardware::price_usd_per_hour, "USD/h",
          Range{0.001, 1e4}, "Rented alone."},
    Field{"runtime_bytes", &estimator::Hardware::runtime_bytes, "bytes", Range{0, 1e12},
          "Contexts and loaded modules."},
    Field{"runtime_interval", &estimator::Hardware::runtime_interval, "", Range{0, 1},
          "Half-width of it, as a share."},
    Field{"notes", &estimator::Hardware::notes, "What else to know."},
    Field{"sources", &estimator::Hardware::sources, "Where the numbers are from."}};

template <>
inline constexpr auto fields<estimator::Node> = std::tuple{
    Field{"name", &estimator::Node::name, "What --gpus takes."},
    Field{"aliases", &estimator::Node::aliases, "Other spellings."},
    Field{"device", &estimator::Node::device, "Name of its devices."},
    Field{"devices", &estimator::Node::devices, "devices", Range{1, 1024}, "How many it has."},
    Field{"host_memory_bytes", &estimator::Node::host_memory_bytes, "bytes", Range{1e9, 1e15},
          "Host memory as sold."},
    Field{"disk_bytes", &estimator::Node::disk_bytes, "bytes", Range{1e9, 1e16},
          "Disks of its own."},
    Field{"vcpus", &estimator::Node::vcpus, "threads", Range{1, 4096}, "Threads of its CPUs."},
    Field{"network_bytes_per_s", &estimator::Node::network_bytes_per_s, "bytes/s", Range{1e7, 1e14},
          "One way, all adapters together."},
    Field{"price_usd_per_hour", &estimator::Node::price_usd_per_hour, "USD/h", Range{0.001, 1e5},
          "On demand."},
    Field{"price_date", &estimator::Node::price_date, "When that price was asked."},
    Field{"notes", &estimator::Node::notes, "What else to know."},
    Field{"sources", &estimator::Node::sources, "Where the numbers are from."}};

}  // namespace ftplan
