/** The help of a program is the comment at the top of its file. */
import { readFileSync } from 'node:fs'

/** @param {string[]} args @returns {boolean} whether they ask for help, before a `--` */
export function asksForHelp(args) {
  const end = args.indexOf('--')
  const own = end < 0 ? args : args.slice(0, end)
  return own.includes('--help') || own.includes('-h')
}

/** @param {string} url of the file */
export function help(url) {
  const text = readFileSync(new URL(url), 'utf8')
  const lines = text.slice(0, text.indexOf('*/')).split('\n').slice(1)
  const shown = lines.map((line) => line.replace(/^ \* ?/, '')).join('\n')
  process.stdout.write(`${shown.trim()}\n`)
}
