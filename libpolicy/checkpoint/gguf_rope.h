#pragma once

#include <cstdint>
#include <string>

namespace meed {

class GgufFile;

/// config.json's "rope_scaling" of a GGUF, "" where nothing is scaled: <arch>.rope.scaling.type
/// linear and yarn, and the divisors of the frequencies in rope_freqs.weight. Those are written as
/// the parameters of "llama3" that make them, or, where none do, as the factors of a "longrope".
/// Throws DataError.
std::string gguf_rope_scaling(const GgufFile& file, const std::string& arch, double theta,
                              int64_t head_dim);

}  // namespace meed
