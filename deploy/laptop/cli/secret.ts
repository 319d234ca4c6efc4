/**
 * Reads a secret value: typed without echo, or from a pipe. Invariant: no message contains a part of the value
 * (test/deploy/laptop/cli/configvalues.test.ts).
 */
import { LIMITS } from '../../shared/bundle/limits.ts'
import { Refusal } from '../../shared/errors.ts'
import type { Term } from './term.ts'

/** Limit for a pipe: the longest value and its newline. */
const MAX_BYTES = LIMITS.configValue + 2
/** Sequences of arrow keys and other special keys: CSI and SS3 (ECMA-48). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: special keys begin with ESC
const KEYS = /\x1b(?:\[[0-9;]*[ -/]*[@-~]|O.)/g
const KEY = { interrupt: '\x03', end: '\x04', backspace: ['\x7f', '\b'], clear: '\x15', enter: ['\r', '\n'], tab: '\t' }

/** Returns the value without its last newline. Throws Refusal `usage`, or `interrupted` after Ctrl-C. */
export function readSecret(term: Term, question: string): Promise<string> {
  return process.stdin.isTTY ? typed(term, question) : piped()
}

async function piped(): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of process.stdin as AsyncIterable<Buffer>) {
    length += part.length
    if (length > MAX_BYTES) throw new Refusal('usage', `the value has more than ${LIMITS.configValue} bytes`)
    parts.push(part)
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(parts))
    return text.replace(/\r?\n$/, '')
  } catch {
    throw new Refusal('usage', 'the value is not UTF-8 text')
  }
}

function typed(term: Term, question: string): Promise<string> {
  const { stdin } = process
  stdin.setEncoding('utf8').setRawMode(true)
  // ask only now that the terminal no longer shows what is typed
  const answered = term.ask(question)
  return new Promise<string>((resolve, reject) => {
    let characters: string[] = []
    const end = () => {
      stdin.setRawMode(false)
      stdin.removeListener('data', onText).pause()
      answered()
    }
    const onText = (text: string) => {
      for (const key of text.replace(KEYS, '')) {
        if (key === KEY.interrupt) {
          end()
          return reject(new Refusal('interrupted', 'interrupted: nothing was changed'))
        }
        if (KEY.enter.includes(key) || key === KEY.end) {
          end()
          return resolve(characters.join(''))
        }
        if (KEY.backspace.includes(key)) characters.pop()
        else if (key === KEY.clear) characters = []
        else if (key >= ' ' || key === KEY.tab) characters.push(key)
      }
    }
    stdin.on('data', onText).resume()
  })
}
