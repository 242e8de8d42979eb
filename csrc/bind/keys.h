// The keys whose values are wanted, found fast.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bind/literals.h"

namespace mfgan::literals {

// A key and the fields that want its value.
struct Key {
  std::string name;
  std::vector<size_t> fields;
  bool lists;  // whether one of them wants the strings of a list
};

class Keys {
 public:
  explicit Keys(const std::vector<Field>& fields);

  // The key of that name, or nullptr where no field wants it.
  const Key* find(std::string_view name) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  // The slot that holds the key, or the empty one where it would be.
  size_t slot_of(std::string_view name) const;

  std::vector<Key> keys_;
  std::vector<uint32_t> slots_;  // open addressing, into keys_
  size_t mask_ = 0;
};

}  // namespace mfgan::literals
