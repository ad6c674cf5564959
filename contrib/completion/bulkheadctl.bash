# bash completion for bulkheadctl(1)

_bulkheadctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands="status peers stats events top kick drain pause resume reload log-level config version help"
	local options="-s --socket -j --json -i --interval --color -V --version -h --help"
	local i word command="" socket=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		-s | --socket)
			i=$((i + 1))
			socket=(-s "${COMP_WORDS[i]}")
			;;
		-i | --interval) i=$((i + 1)) ;;
		-*) ;;
		*) command=${command:-$word} ;;
		esac
	done
	case $prev in
	-s | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	-i | --interval) return ;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		return
	fi
	case $command in
	"") word=$commands ;;
	kick | drain) word=$(bulkheadctl "${socket[@]}" peers 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
	pause | resume)
		word=$(bulkheadctl "${socket[@]}" -j status 2>/dev/null |
			sed -n 's/^      "name": "\(.*\)",$/\1/p')
		;;
	help) word=$commands ;;
	log-level) word="error warning notice info debug" ;;
	*) word= ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
}

complete -F _bulkheadctl bulkheadctl
