#pragma once

#include <memory>
#include <string>
#include <vector>

// Of Gloo no more than what c10d's ProcessGroupGloo.hpp names: the wheel of LibTorch has the
// library inside and leaves its headers out.
namespace gloo {

class Context;

namespace transport {

class Device;

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};

}  // namespace transport
}  // namespace gloo
