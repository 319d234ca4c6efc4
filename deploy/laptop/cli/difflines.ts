/** A change of a text as lines to read: `-` was there, `+` comes, and two lines around each change. */

/** Lines shown before and after a change. */
const AROUND = 2
const CUT = '  …'

export function diffLines(before: string, after: string): string[] {
  const marked = compare(lines(before), lines(after))
  const near = (at: number) =>
    marked.slice(Math.max(0, at - AROUND), at + AROUND + 1).some((line) => !line.startsWith(' '))
  const shown: string[] = []
  for (const [at, line] of marked.entries()) {
    if (near(at)) shown.push(line)
    else if (shown.at(-1) !== CUT) shown.push(CUT)
  }
  return shown
}

const lines = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'))

/** By the longest common subsequence: files of the firmware have less than a hundred lines. */
function compare(a: readonly string[], b: readonly string[]): string[] {
  const length = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0))
  const at = (i: number, j: number) => length[i]?.[j] ?? 0
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const row = length[i] as number[]
      row[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
    }
  }
  const marked: string[] = []
  let [i, j] = [0, 0]
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      marked.push(`  ${a[i++]}`)
      j++
    } else if (i < a.length && (j === b.length || at(i + 1, j) >= at(i, j + 1))) marked.push(`- ${a[i++]}`)
    else marked.push(`+ ${b[j++]}`)
  }
  return marked
}
