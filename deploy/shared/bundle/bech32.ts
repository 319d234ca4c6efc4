/** Decodes keys of age: Bech32 (BIP 173, without its length limit) of 32 bytes with a known prefix; null for anything else. */
const ALPHABET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3]

export function decodeBech32(prefix: string, text: string): Uint8Array | null {
  if (!text.startsWith(`${prefix}1`)) return null
  const digits = Array.from(text.slice(prefix.length + 1), (char) => ALPHABET.indexOf(char))
  if (digits.length !== 58 || digits.includes(-1)) return null
  const expanded = [...Array.from(prefix, code(5)), 0, ...Array.from(prefix, code(0))]
  if (polymod([...expanded, ...digits]) !== 1) return null
  const bytes: number[] = []
  let [value, bits] = [0, 0]
  for (const digit of digits.slice(0, -6)) {
    value = ((value << 5) | digit) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      bytes.push((value >> bits) & 0xff)
    }
  }
  // the remaining bits are padding, and must be zero: one text for one key
  return bits < 5 && (value & ((1 << bits) - 1)) === 0 && bytes.length === 32 ? Uint8Array.from(bytes) : null
}

/** The high bits of each character code (shift 5), or the low five. */
function code(shift: 0 | 5): (char: string) => number {
  return (char) => (shift === 5 ? char.charCodeAt(0) >> 5 : char.charCodeAt(0) & 31)
}

function polymod(values: readonly number[]): number {
  let sum = 1
  for (const value of values) {
    const top = sum >>> 25
    sum = ((sum & 0x1ffffff) << 5) ^ value
    GENERATOR.forEach((generator, i) => {
      if ((top >> i) & 1) sum ^= generator
    })
  }
  return sum >>> 0
}
