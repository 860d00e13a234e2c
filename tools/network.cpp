#include "tools/network.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/text.h"
#include "models/files.h"

namespace ftplan::tools {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> resolve_host(const std::string& host, std::uint16_t port, int kind) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = kind;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return run_failed(host, std::string("cannot be resolved: ") + gai_strerror(code));
  return Addresses(found, &freeaddrinfo);
}

std::string text_of(const sockaddr* address) {
  std::array<char, NI_MAXHOST> text{};
  const socklen_t size =
      address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  const int code = getnameinfo(address, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  return code == 0 ? text.data() : "";
}

}  // namespace

Result<BoundSocket> bind_socket(const std::string& address, std::uint16_t port) {
  const auto found = resolve_host(address, port, SOCK_STREAM);
  if (!found) return found.error();
  int why = 0;
  for (const addrinfo* each = found->get(); each != nullptr; each = each->ai_next) {
    const int descriptor = socket(each->ai_family, SOCK_STREAM, 0);
    const int on = 1;
    // Its names are in a header that differs from system to system.
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on,  // NOLINT(misc-include-cleaner)
               sizeof on);
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    if (bind(descriptor, each->ai_addr, each->ai_addrlen) == 0 &&
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&bound), &size) == 0) {
      const std::uint16_t number = bound.ss_family == AF_INET6
                                       ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                       : reinterpret_cast<sockaddr_in*>(&bound)->sin_port;
      return BoundSocket{descriptor, ntohs(number)};
    }
    why = errno;
    close(descriptor);
  }
  return run_failed(address + ":" + std::to_string(port),
                    "ranks cannot meet here: " + models::system_text(why));
}

Result<std::string> address_towards(const std::string& host) {
  // Connecting a datagram socket sends nothing; it chooses a way.
  constexpr std::uint16_t kAnyPort = 9;
  const auto found = resolve_host(host, kAnyPort, SOCK_DGRAM);
  if (!found) return found.error();
  for (const addrinfo* each = found->get(); each != nullptr; each = each->ai_next) {
    const int descriptor = socket(each->ai_family, SOCK_DGRAM, 0);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    const bool reached = connect(descriptor, each->ai_addr, each->ai_addrlen) == 0 &&
                         getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &size) == 0;
    close(descriptor);
    if (reached) return text_of(reinterpret_cast<sockaddr*>(&own));
  }
  return run_failed(host, "cannot be reached from this host");
}

Result<std::string> address_of_interface(const std::string& name) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return run_failed(name, models::system_text(errno));
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(all, &freeifaddrs);
  std::vector<std::string> names;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
      if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != family) continue;
      if (name == each->ifa_name) return text_of(each->ifa_addr);
      if (family == AF_INET) names.emplace_back(each->ifa_name);
    }
  }
  return bad_input("--interface", "got \"" + name + "\", this host has " + join(names, ", "));
}

}  // namespace ftplan::tools
