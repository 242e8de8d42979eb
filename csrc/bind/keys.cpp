#include "bind/keys.h"

#include "bind/text.h"

namespace mfgan::literals {
namespace {

size_t key_hash(std::string_view key) {
  if (key.empty()) return 0;
  const auto first = static_cast<unsigned char>(key.front());
  const auto last = static_cast<unsigned char>(key.back());
  return key.size() * 31 + first * 7 + last;
}

// What a call of memcmp costs is more than a key's comparison.
bool same(std::string_view one, std::string_view other) {
  const size_t size = one.size();
  if (size != other.size()) return false;
  if (size < 4 || size > 16) return one == other;
  const char *a = one.data(), *b = other.data();
  if (size >= 8) return load8(a) == load8(b) && load8(a + size - 8) == load8(b + size - 8);
  return load4(a) == load4(b) && load4(a + size - 4) == load4(b + size - 4);
}

}  // namespace

Keys::Keys(const std::vector<Field>& fields) {
  size_t size = 64;
  while (size < 4 * fields.size()) size *= 2;
  slots_.assign(size, kNone);
  mask_ = size - 1;
  for (size_t i = 0; i < fields.size(); ++i) {
    const size_t slot = slot_of(fields[i].key);
    if (slots_[slot] == kNone) {
      slots_[slot] = static_cast<uint32_t>(keys_.size());
      keys_.push_back({fields[i].key, {}, false});
    }
    Key& key = keys_[slots_[slot]];
    key.fields.push_back(i);
    key.lists = key.lists || fields[i].kind == Kind::kTexts;
  }
}

size_t Keys::slot_of(std::string_view name) const {
  size_t slot = key_hash(name) & mask_;
  while (slots_[slot] != kNone && !same(keys_[slots_[slot]].name, name)) slot = (slot + 1) & mask_;
  return slot;
}

const Key* Keys::find(std::string_view name) const {
  const uint32_t key = slots_[slot_of(name)];
  return key == kNone ? nullptr : &keys_[key];
}

}  // namespace mfgan::literals
