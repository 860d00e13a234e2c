#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"

/// Addresses of this host.
namespace ftplan::tools {

/// A socket that is bound and not yet listening.
struct BoundSocket {
  int descriptor = -1;
  std::uint16_t port = 0;
};

/// Binds `address` and nothing else: other interfaces of the host do not hear.
/// @param port 0: any that is free
/// @error run failed: the address is not of this host, or the port is taken
Result<BoundSocket> bind_socket(const std::string& address, std::uint16_t port);

/// The address by which this host reaches `host`, which may be itself.
/// @error run failed: no such host, or no way there
Result<std::string> address_towards(const std::string& host);

/// The address of a network interface, such as `eth0`.
/// @error bad input: there is none of this name with an address
Result<std::string> address_of_interface(const std::string& name);

}  // namespace ftplan::tools
