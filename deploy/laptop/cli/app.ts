/** What every command is given; a command touches the process through it only. */
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

/** One file each in commands/. `define` adds arguments, options, an example and the action, which answers the exit code. */
export interface CommandModule {
  define(command: Command, app: App, run: Runner): void
}
export type Runner = (action: () => Promise<number>) => Promise<void>

export function example(...lines: string[]): string {
  return `\nExample:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
}

/** Options that are given before or after the command. */
export interface Globals {
  device?: string
  key?: string
}
