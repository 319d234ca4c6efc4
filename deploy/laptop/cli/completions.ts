/**
 * Completion scripts for three shells. A completion starts no Node process: the shell reads names of robots from
 * robots.json.
 */
export const SHELLS = ['bash', 'zsh', 'fish'] as const

export interface Words {
  name: string
  summary: string
  subcommands: readonly string[]
  options: readonly string[]
}

const GLOBAL = ['--device', '--json', '--key', '--help']
/** Finds the keys of `robots` by their indentation of four spaces, as writeJson() writes them. */
const FILE = `"\${MEDULLA_CONFIG:-\${XDG_CONFIG_HOME:-$HOME/.config}/medulla}/robots.json"`
const ROBOTS = `sed -n 's/^    "\\([a-z0-9._-]*\\)": {$/\\1/p' ${FILE} 2>/dev/null`

export function script(shell: (typeof SHELLS)[number], commands: readonly Words[]): string {
  if (shell === 'fish') return fish(commands)
  return shell === 'bash' ? bash(commands) : zsh(commands)
}

function bash(commands: readonly Words[]): string {
  const cases = commands.map(
    ({ name, subcommands, options }) => `    ${name}) words="${[...subcommands, ...options, ...GLOBAL].join(' ')}" ;;`,
  )
  return `# bash completion of medulla
_medulla() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} words at command=
  case $before in
    -d|--device|use|forget) COMPREPLY=($(compgen -W "$(${ROBOTS})" -- "$word")); return ;;
    help) COMPREPLY=($(compgen -W "${names(commands)}" -- "$word")); return ;;
  esac
  for ((at = 1; at < COMP_CWORD; at++)); do
    case \${COMP_WORDS[at]} in
      -d|--device|--key) ((at++)) ;;
      -*) ;;
      *) command=\${COMP_WORDS[at]}; break ;;
    esac
  done
  case $command in
    '') words="${names(commands)} help ${GLOBAL.join(' ')}" ;;
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [[ $word == -* || -z $command ]] || COMPREPLY+=($(compgen -f -- "$word"))
}
complete -o filenames -F _medulla medulla
`
}

function zsh(commands: readonly Words[]): string {
  const list = commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`)
  const cases = commands.map(({ name, subcommands, options }) => {
    const subs = subcommands.length === 0 ? '' : `compadd -- ${subcommands.join(' ')}; `
    return `    ${name}) ${subs}[[ $PREFIX == -* ]] && compadd -- ${[...options, ...GLOBAL].join(' ')} || _files ;;`
  })
  return `#compdef medulla
_medulla() {
  local -a commands=(
${list.join('\n')}
  )
  case \${words[CURRENT-1]} in
    -d|--device|use|forget) compadd -- \${(f)"$(${ROBOTS})"}; return ;;
    help) _describe command commands; return ;;
  esac
  local at command=
  for ((at = 2; at < CURRENT; at++)); do
    case \${words[at]} in
      -d|--device|--key) ((at++)) ;;
      -*) ;;
      *) command=\${words[at]}; break ;;
    esac
  done
  case $command in
    '') [[ $PREFIX == -* ]] && compadd -- ${GLOBAL.join(' ')} || _describe command commands ;;
${cases.join('\n')}
  esac
}
if [[ \${funcstack[1]} == _medulla ]]; then _medulla "$@"; else compdef _medulla medulla; fi
`
}

function fish(commands: readonly Words[]): string {
  const unset = `not __fish_seen_subcommand_from ${names(commands)}`
  const lines = commands.flatMap(({ name, summary, subcommands, options }) => [
    `complete -c medulla -n '${unset}' -f -a ${name} -d ${quoted(summary)}`,
    ...subcommands.map((sub) => `complete -c medulla -n '__fish_seen_subcommand_from ${name}' -f -a ${sub}`),
    ...options.map((option) => `complete -c medulla -n '__fish_seen_subcommand_from ${name}' ${fishOption(option)}`),
  ])
  return `# fish completion of medulla
function __medulla_robots
  set -l folder $MEDULLA_CONFIG
  test -n "$folder"; or set folder $XDG_CONFIG_HOME/medulla
  test "$folder" != /medulla; or set folder $HOME/.config/medulla
  sed -n 's/^    "\\([a-z0-9._-]*\\)": {$/\\1/p' $folder/robots.json 2>/dev/null
end
complete -c medulla -s d -l device -x -a '(__medulla_robots)' -d 'which robot'
complete -c medulla -l key -r -d 'the key that signs'
complete -c medulla -l json -d 'one JSON object per line'
complete -c medulla -n '__fish_seen_subcommand_from use forget' -f -a '(__medulla_robots)'
${lines.join('\n')}
`
}

const names = (commands: readonly Words[]): string => commands.map(({ name }) => name).join(' ')
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`
const fishOption = (option: string): string =>
  option.startsWith('--') ? `-l ${option.slice(2)}` : `-s ${option.slice(1)}`
