/** The command line of a tool of this folder: runs it when its file is what Node was started with. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { BuildError } from './error.mjs'

/**
 * @param {string} url import.meta.url of the tool
 * @param {{ say(text: string): void, packages: readonly string[], main(args: string[]): Promise<void> }} tool `packages`: of the
 *   host, which the argument `packages` lists
 */
export async function runTool(url, { say, packages, main }) {
  if (process.argv[1] !== fileURLToPath(url)) return
  const args = process.argv.slice(2)
  try {
    if (args[0] === 'packages') process.stdout.write(`${packages.join(' ')}\n`)
    else await main(args)
  } catch (error) {
    if (!(error instanceof BuildError || error?.code?.startsWith('ERR_PARSE_ARGS'))) throw error
    say(`error: ${error.message}`)
    if (error.hint !== undefined) say(`hint: ${error.hint}`)
    process.exitCode = 1
  }
}

/** @returns {(text: string) => void} prints what the tool does to stderr, under its name */
export const sayAs = (name) => (text) => void process.stderr.write(`${name}: ${text}\n`)

/** @throws {BuildError} when the runtime is not compiled, with the command that does it */
export function requireCompiled(main, hint) {
  if (!existsSync(main)) throw new BuildError('nothing is compiled', hint)
}
