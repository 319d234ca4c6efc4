/** What both pictures are made of: elements of SVG as text. */

type Attributes = Readonly<Record<string, string | number>>

export function element(name: string, attributes: Attributes, ...inside: readonly string[]): string {
  const words = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(short(value))}"`)
  return inside.length === 0 ? `<${name}${words.join('')}/>` : `<${name}${words.join('')}>${inside.join('')}</${name}>`
}

export const text = (x: number, y: number, attributes: Attributes, words: string): string =>
  element('text', { x, y, ...attributes }, escaped(words))

export const box = (x: number, y: number, width: number, height: number, attributes: Attributes): string =>
  element('rect', { x, y, width, height, ...attributes })

export const line = (x1: number, y1: number, x2: number, y2: number, attributes: Attributes): string =>
  element('line', { x1, y1, x2, y2, ...attributes })

/** Straight lines from point to point. */
export const path = (points: readonly (readonly [number, number])[], attributes: Attributes): string =>
  element('path', {
    d: points.map(([x, y], i) => `${i === 0 ? 'M' : 'L'}${short(x)} ${short(y)}`).join(''),
    ...attributes,
  })

/** A whole file, with what screen readers say of it. */
export function picture(
  size: { width: number; height: number },
  about: { title: string; desc: string; style: string },
  parts: readonly string[],
): string {
  // biome-ignore format: a head
  const { width, height } = size
  const attributes = { xmlns: 'http://www.w3.org/2000/svg', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-labelledby': 'title desc' } // biome-ignore format: a head
  const head = [
    element('title', { id: 'title' }, escaped(about.title)),
    element('desc', { id: 'desc' }, escaped(about.desc)),
    element('style', {}, about.style),
  ]
  return `${element('svg', attributes, `\n${[...head, ...parts].join('\n')}\n`)}\n`
}

export const escaped = (words: string): string =>
  words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const short = (value: string | number): string => (typeof value === 'number' ? String(Number(value.toFixed(1))) : value)
