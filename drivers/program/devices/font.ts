/** A font of the printable ASCII characters, five pixels wide and seven high. */

const FIRST = ' '.charCodeAt(0)
const LAST = '~'.charCodeAt(0)
const ACROSS = 19
export const GLYPH_WIDTH = 5
export const GLYPH_HEIGHT = 7

/**
 * From the space to the tilde: five banks of 19 characters side by side, of seven rows each. A digit of base 32 is a row of a
 * character, its highest bit on the left. test/drivers/program/devices/font.test.ts has the pictures.
 */
const ROWS = [
  '04a04pc428000001e4e',
  '04aafpi444440001hch',
  '040vk2i082l40002jk1',
  '040ae4c082ev0v04l46',
  '040v58j082l44008p48',
  '000auji0444440cgh4g',
  '04004jd0280080cgevv',
  'u2v6vee0010geeeuesv',
  '16g81hhcc208hhhhhig',
  '1aug2hhcc4v41nhhghg',
  'ei1u2ef008022lvughu',
  '1v1h4h1cc4v44nhhghg',
  '12hh4h2c42080ghhhig',
  'u2ee4ec0810g4fhuesv',
  'vehe7hghheueufvhhhh',
  'ghh42igrphhhhg4hhhh',
  'ggh42kglphhhhg4hhha',
  'ujv42ogllhuhue4hhl4',
  'ghh42kghjhglk14hala',
  'ghh4iighjhgii14harh',
  'gfhechvhhegdhu4e4hh',
  'hvege4080g01060g42g',
  'h18g2a040g01080g00g',
  'a2882h00euffeufuc6i',
  '448420001hghh8hh42k',
  '48822000fhghv8fh42o',
  '4g812000hhghg81h4ik',
  '4ve1e0v0fuffe8eheci',
  'c0000000800000034o0',
  '4000000080000004440',
  '4queufmfuhhhhhv4448',
  '4lhhhhpg8hhlah2842l',
  '4lhhufge8hal4f44442',
  '4lhhg1g18hala184440',
  'elheg1gu6f4ahev34o0',
] as const

/** Whether a pixel of a character is lit; none beyond its picture is. Other characters look like a question mark. */
export function isLit(character: string, x: number, y: number): boolean {
  if (x >= GLYPH_WIDTH || y >= GLYPH_HEIGHT) return false
  const code = character.charCodeAt(0)
  const index = (code >= FIRST && code <= LAST ? code : '?'.charCodeAt(0)) - FIRST
  const row = ROWS[Math.floor(index / ACROSS) * GLYPH_HEIGHT + y]?.[index % ACROSS] ?? '0'
  return ((Number.parseInt(row, 32) << x) & 0b10000) !== 0
}
