/** Findings of the doctor. Rule: a missing thing is a problem only if the board file needs it, otherwise a warning or ok. */
import type { Finding, Fix } from '../../deploy/shared/doctor.ts'
import type { Board, BoardHandle } from '../../drivers/board/types.ts'

export type { Finding, Fix }

export const ok = (about: string, found: string): Finding => ({ about, severity: 'ok', found, fix: [] })
export const warning = (about: string, found: string, ...fix: Fix[]): Finding => ({
  about,
  severity: 'warning',
  found,
  fix,
})
export const problem = (about: string, found: string, fix: Fix, ...more: Fix[]): Finding => ({
  about,
  severity: 'problem',
  found,
  fix: [fix, ...more],
})

export const act = (advice: string): Fix => ({ do: advice })
export const run = (command: string): Fix => ({ run: command })
/** Brings a Raspberry Pi to its newest kernel. */
export const UPDATE: Fix = run('sudo apt update && sudo apt full-upgrade && sudo reboot')
export const write = (line: string, to: string): Fix => ({ write: line, to })

/** The board's handles of these kinds, by name; none when the board is simulated or unknown. */
export function handles<K extends BoardHandle['kind']>(
  board: Board | null,
  ...kinds: K[]
): [name: string, entry: Extract<BoardHandle, { kind: K }>][] {
  if (board === null || board.model === 'sim') return []
  const wanted: readonly string[] = kinds
  return Object.entries(board.handles).filter((pair): pair is [string, Extract<BoardHandle, { kind: K }>] =>
    wanted.includes(pair[1].kind),
  )
}

/** Like `"led", "lamp", "horn" and 3 more`. */
export function names(list: readonly string[]): string {
  const shown = list.slice(0, 3).map((name) => JSON.stringify(name))
  const more = list.length - shown.length
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ')
}
