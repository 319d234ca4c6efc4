/** What every command gets as arguments: the terminal, the environment and the config folder. */
import type { Command } from 'commander'
import type { Term } from './term.ts'

export interface App {
  readonly term: Term
  readonly env: Readonly<Record<string, string | undefined>>
  /** The config folder. */
  readonly dir: string
  readonly commands: Readonly<Record<string, CommandEntry>>
}

/** A command in the table of commands.ts. */
export interface CommandEntry {
  readonly summary: string
  load(): Promise<CommandModule>
}

/** One file in commands/. `define` adds arguments, options, an example and the action, which returns the exit code. */
export interface CommandModule {
  define(command: Command, app: App, run: Runner): void
}
export type Runner = (action: () => Promise<number>) => Promise<void>

export function example(...lines: string[]): string {
  return `\nExample:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
}

/** Options that may stand before or after the command. */
export interface Globals {
  device?: string
  key?: string
}
