/** What holds for every picture of the documentation. */
import { expect } from 'vitest'

const KB = 1024
/** Where each picture is, who shows it, and how large it may be. */
export const PICTURES = [
  { file: 'runtime/push.svg', shownBy: 'README.md', link: 'runtime/push.svg', most: 30 * KB },
  { file: 'deploy/push-terminal.svg', shownBy: 'deploy/README.md', link: 'push-terminal.svg', most: 40 * KB },
] as const

const NAME = '[a-zA-Z][\\w-]*'
const TAG = new RegExp(`^<(/?)(${NAME})((?: ${NAME}="[^"<]*")*)(/?)>$`)

/** Well-formed, with a title and a description, without scripts or anything from elsewhere. */
export function expectPicture(svg: string): void {
  expect(faults(svg)).toEqual([])
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" [^>]*role="img"/)
  expect(svg).toMatch(/<title id="title">[^<]{10,}<\/title>\s*<desc id="desc">[^<]{10,}<\/desc>/)
  expect(svg).not.toMatch(/<script|<image|<foreignObject|href=|url\(|@import|\son\w+=/)
  expect(svg).not.toMatch(/NaN|undefined|Infinity/)
}

/** Where it is no well-formed XML: of the part of XML that our pictures use. */
export function faults(xml: string): string[] {
  const open: string[] = []
  const found: string[] = []
  for (const part of xml.trim().split(/(<[^>]*>)/)) {
    if (/&(?!(?:amp|lt|gt|quot);)/.test(part)) found.push(`bare & in ${part}`)
    if (!part.startsWith('<')) {
      if (part !== '' && open.length === 0) found.push(`text outside of the root: ${part}`)
      continue
    }
    const [, closes, name = '', attributes = '', isEmpty] = TAG.exec(part) ?? []
    if (name === '') found.push(`no tag: ${part}`)
    const names = [...attributes.matchAll(new RegExp(` (${NAME})=`, 'g'))].map(([, each]) => each)
    if (new Set(names).size < names.length) found.push(`an attribute twice: ${part}`)
    if (closes === '/' && open.pop() !== name) found.push(`closed, but not open: ${part}`)
    if (closes === '' && isEmpty === '') open.push(name)
  }
  return [...found, ...open.map((name) => `not closed: ${name}`)]
}
