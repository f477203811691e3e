# shellcheck shell=bash
# Command-line options, in the style of Kaldi's parse_options.sh. A script declares them as plain variables, one a line,
#
#     # options
#     stage=1     # the first stage to run
#     # end of options
#
# and then sources this file with its arguments:  . local/parse_options.sh "$@"
#
# --stop_stage 3, --stop-stage 3 and --stop-stage=3 are the same. --help prints the head of the script and the options
# with their values. An unknown option, a missing value, or a word where a number or true/false is declared is an error.
# What follows "--" is left in the array `rest`.

option_names=()
option_help=()
read_declarations() {
    local line inside=false
    while IFS= read -r line; do
        case $line in
            "# options"*) inside=true ;;
            "# end of options"*) return ;;
            [a-z]*=*) if $inside; then
                option_names+=("${line%%=*}")
                case $line in *" # "*) option_help+=("${line##*" # "}") ;; *) option_help+=("") ;; esac
            fi ;;
        esac
    done <"$1"
}

option_error() {
    echo "${0##*/}: error: $1 (--help lists the options)" >&2
    exit 2
}

# Is $1 one of the declared options?
is_option() {
    local name
    for name in "${option_names[@]}"; do [ "$name" != "$1" ] || return 0; done
    return 1
}

# The number of edits between two words (Levenshtein), in `edits`.
count_edits() {
    local a=$1 b=$2 i j cost best diagonal row=()
    for ((j = 0; j <= ${#b}; j++)); do row[j]=$j; done
    for ((i = 1; i <= ${#a}; i++)); do
        diagonal=${row[0]}
        row[0]=$i
        for ((j = 1; j <= ${#b}; j++)); do
            cost=1
            [ "${a:i-1:1}" != "${b:j-1:1}" ] || cost=0
            best=$((diagonal + cost))
            diagonal=${row[j]}
            ((row[j] + 1 >= best)) || best=$((row[j] + 1))
            ((row[j - 1] + 1 >= best)) || best=$((row[j - 1] + 1))
            row[j]=$best
        done
    done
    edits=${row[${#b}]}
}

unknown_option() {
    local name edits best=99 nearest=
    for name in "${option_names[@]}"; do
        count_edits "$1" "$name"
        if ((edits < best)); then best=$edits nearest=$name; fi
    done
    if ((best <= (${#1} + 1) / 2)); then
        option_error "unknown option --$1; did you mean --$nearest?"
    fi
    option_error "unknown option --$1"
}

# A default that is a number or true/false says what the option's values are.
check_value() {
    local name=$1 value=$2 default=${!1}
    case $default in
        true | false) case $value in true | false) ;; *) option_error "--$name is true or false, not '$value'" ;; esac ;;
        *[!0-9]* | "") ;;
        *) case $value in *[!0-9]* | "") option_error "--$name is a whole number, not '$value'" ;; esac ;;
    esac
}

print_help() {
    local i name line
    # the comment at the head of the script, then the options
    while IFS= read -r line; do
        case $line in "#!"*) ;; "#"*) line=${line#"#"}; echo "${line# }" ;; *) break ;; esac
    done <"$1"
    echo
    echo "Options (dashes and underscores are alike; in brackets the value that would be used):"
    for ((i = 0; i < ${#option_names[@]}; i++)); do
        name=${option_names[i]}
        printf '  --%-24s %s [%s]\n' "$name" "${option_help[i]}" "${!name}"
    done
}

parse_arguments() {
    local script=$1 name value help=false
    shift
    read_declarations "$script"
    rest=()
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) help=true; shift; continue ;;
            --) shift; rest=("$@"); break ;;
            --?*) ;;
            *) option_error "an option is expected, not '$1'" ;;
        esac
        name=${1#--}
        name=${name%%=*}
        name=${name//-/_}
        is_option "$name" || unknown_option "$name"
        case $1 in
            *=*) value=${1#*=} ;;
            *)
                [ $# -gt 1 ] || option_error "--$name needs a value"
                value=$2
                case $value in --?*)  # the next option where a value should be
                    is_option "$(tr - _ <<<"${value#--}")" && option_error "--$name needs a value, and --${value#--} follows"
                    ;;
                esac
                shift
                ;;
        esac
        check_value "$name" "$value"
        printf -v "$name" '%s' "$value"
        shift
    done
    if $help; then
        print_help "$script"
        exit 0
    fi
}

parse_arguments "${BASH_SOURCE[1]}" "$@"
