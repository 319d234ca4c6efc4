/** Reads the blocks marked `console` in robots/README.md, and compares their output with what was printed. */
import { text } from '../../../project/tree.ts'

export interface Step {
  command: string
  expected: string[]
}

/** The commands of a whole document in which two computers are used: `$` begins one of the laptop, `rover#` one of the robot. */
export function stepsOfTwo(file: string): (Step & { section: string; host: 'laptop' | 'rover' })[] {
  return text(file)
    .split(/^## /m)
    .flatMap((part) => {
      const section = part.split('\n')[0] ?? ''
      const found: (Step & { section: string; host: 'laptop' | 'rover' })[] = []
      for (const [, body = ''] of part.matchAll(/^```console\n(.*?)^```$/gms)) {
        for (const line of body.trimEnd().split('\n')) {
          const [, prompt, command = ''] = /^(\$|rover#) (.*)$/.exec(line) ?? []
          if (prompt !== undefined)
            found.push({ section, host: prompt === '$' ? 'laptop' : 'rover', command, expected: [] })
          else if (line !== '') found.at(-1)?.expected.push(line)
        }
      }
      return found
    })
}

/** The `console` blocks of one section. A command begins with `$ `, and its output follows. */
export function steps(section: string): Step[] {
  const part =
    text('robots/README.md')
      .split(/^## /m)
      .find((each) => each.startsWith(`${section}\n`)) ?? ''
  const blocks = [...part.matchAll(/^```console\n(.*?)^```$/gms)].map(([, body = '']) => body)
  const found: Step[] = []
  for (const line of blocks.flatMap((body) => body.trimEnd().split('\n'))) {
    if (line.startsWith('$ ')) found.push({ command: line.slice(2), expected: [] })
    else if (line !== '') found.at(-1)?.expected.push(line)
  }
  return found
}

/** Parts of the output that differ from run to run. */
export function plain(line: string, home: string): string {
  return line
    .replaceAll(home, '~')
    .replace(/(SHA256:)[\w+/]{43}|\b[0-9a-f]{8,64}\b/g, '$1#')
    .replace(/[▏▎▍▌▋▊▉█▁▔]+/gu, '')
    .replace(/\d+(?:[.:-]\d+)*(?:T[\d:.]+Z)?/g, '#')
    .replace(/ +/g, ' ')
    .trim()
}

const matches = (wanted: string, got: string): boolean => {
  const [begin = '', ...rest] = plain(wanted, '~').split('…')
  if (rest.length === 0) return begin === got
  return got.startsWith(begin.trimEnd()) && rest.every((part) => got.includes(part.trim()))
}

/** The first line that differs from the expected one; null if there is none. */
export function differs(expected: readonly string[], got: readonly string[]): string | null {
  let at = 0
  for (let i = 0; i < expected.length; i++) {
    const wanted = expected[i] ?? ''
    if (wanted.trim() === '…') {
      const next = expected[i + 1]
      if (next === undefined) return null
      while (at < got.length && !matches(next, got[at] ?? '')) at++
    } else if (at >= got.length || !matches(wanted, got[at++] ?? '')) return `expected ${JSON.stringify(wanted)}`
  }
  return at < got.length ? `not expected: ${JSON.stringify(got[at])}` : null
}
