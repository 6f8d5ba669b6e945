#include "cmd/manual.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "study/config.h"

/* roff: a dash is written so that it can be copied, and a line never begins with a control. */
static void roff_text(const char *text, FILE *f)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", f);
    for (; *text; text++)
        if (*text == '-')
            fputs("\\-", f);
        else if (*text == '\\')
            fputs("\\e", f);
        else
            fputc(*text, f);
}

static void roff_line(const char *text, FILE *f)
{
    roff_text(text, f);
    fputc('\n', f);
}

static void roff_option(const struct opt *o, const char *dashes, FILE *f)
{
    static const char *const types[] = {"N", "X", NULL, "TEXT", NULL};

    fprintf(f, ".TP\n.B ");
    roff_text(dashes, f);
    for (const char *c = o->key; *c; c++) /* a flag as people type it, a key as its file has it */
        fputs(*dashes && *c == '_' ? "\\-" : (char[2]){*c, 0}, f);
    if (o->choices || types[o->type]) {
        fputs(" \\fI", f);
        roff_text(o->choices ? o->choices : types[o->type], f);
        fputs("\\fR", f);
    }
    fputc('\n', f);
    roff_text(o->help ? o->help : "", f);
    if (o->unit || o->def) {
        fputs(" (", f);
        roff_text(o->unit ? o->unit : "", f);
        fprintf(f, "%s%s", o->unit && o->def ? ", " : "", o->def ? "default " : "");
        roff_text(o->def ? (*o->def ? o->def : "none") : "", f);
        fputc(')', f);
    }
    fputc('\n', f);
}

static void roff_options(const struct opt *table, const char *dashes, FILE *f)
{
    for (const struct opt *o = table; o && o->key; o++)
        roff_option(o, dashes, f);
}

static void roff_head(const char *name, const char *summary, FILE *f)
{
    fprintf(f, ".TH \"%s\" 1 \"\" \"peosim %s\" \"peosim\"\n.SH NAME\n", name, PEOSIM_VERSION);
    roff_text(name, f);
    fputs(" \\- ", f);
    roff_line(summary, f);
}

static void page_of_all(FILE *f)
{
    roff_head("peosim", "how a Mixture-of-Experts layer behaves under expert parallelism", f);
    fprintf(f, ".SH SYNOPSIS\n.B peosim\n\\fICOMMAND\\fR ...\n.SH COMMANDS\n");
    for (size_t i = 0; i < cmd_count(); i++) {
        const struct cmd *c = cmd_at(i);

        fprintf(f, ".TP\n.B %s\n", c->name);
        roff_line(c->summary, f);
    }
    fprintf(f, ".SH EXIT STATUS\n0: done; 1: the run failed; 2: wrong usage or configuration.\n"
               ".SH FILES\n"
               "Shipped profiles, models, configurations and plots are looked for in $PEOSIM_HOME, "
               "beside the program, and in ../share/peosim from it.\n.SH SEE ALSO\n");
    for (size_t i = 0; i < cmd_count(); i++)
        fprintf(f, "peosim\\-%s(1)%s\n", cmd_at(i)->name, i + 1 < cmd_count() ? "," : "");
}

static void page_of_command(const struct cmd *c, FILE *f)
{
    char name[64];

    snprintf(name, sizeof name, "peosim-%s", c->name);
    roff_head(name, c->summary, f);
    fprintf(f, ".SH SYNOPSIS\n.B peosim %s\n", c->name);
    roff_line(c->usage, f);
    fprintf(f, ".SH OPTIONS\n");
    roff_options(c->flags, "--", f);
    if (c->common)
        roff_options(common_options, "--", f);
    fprintf(f, ".SH EXAMPLES\n.nf\n");
    for (size_t i = 0; i < 3 && c->examples[i]; i++)
        roff_line(c->examples[i], f);
    fprintf(f, ".fi\n");
    if (c->own_keys[0])
        fprintf(f, ".SH CONFIGURATION\nKeys of the file, also \\-\\-set KEY=VALUE.\n");
    for (size_t i = 0; i < 3 && c->own_keys[i]; i++)
        roff_options(c->own_keys[i], "", f);
    if (c->keys) {
        fprintf(f, ".SH CONFIGURATION\nKeys of the file, also \\-\\-set KEY=VALUE or "
                   "\\-\\-KEY=VALUE; V1,V2 is a list where one is allowed.\n");
        roff_options(scenario_options, "", f);
    }
    for (size_t i = 0; c->keys && i < policy_count(); i++) {
        fprintf(f, ".SS Knobs of policy %s\n", policy_at(i)->name);
        roff_line(policy_at(i)->summary, f);
        roff_options(policy_at(i)->knobs, "", f);
    }
    fprintf(f, ".SH SEE ALSO\npeosim(1)\n");
}

void manual_page(const struct cmd *cmd, FILE *f)
{
    if (cmd)
        page_of_command(cmd, f);
    else
        page_of_all(f);
}

/* The words of one kind, separated by blanks. */
static void words_of(const struct opt *table, const char *before, FILE *f)
{
    for (const struct opt *o = table; o && o->key; o++) {
        fprintf(f, " %s", before);
        for (const char *c = o->key; *c; c++)
            fputc(*c == '_' ? '-' : *c, f);
    }
}

/* The names that a shipped folder offers; witness: a file that is there. */
static void names_in(const char *witness, const char *ending, FILE *f)
{
    char **names = file_names_installed(witness, ending);

    for (size_t i = 0; names && names[i]; i++)
        fprintf(f, " %s", names[i]);
    file_names_free(names);
}

static void values_of_choices(const struct opt *table, const char *line, FILE *f)
{
    for (const struct opt *o = table; o && o->key; o++) {
        if (!o->choices)
            continue;
        fprintf(f, line, o->key);
        for (const char *c = o->choices; *c; c++)
            fputc(*c == '|' ? ' ' : *c, f);
        fputs("\" ;;\n", f);
    }
}

static void flags_of(const struct cmd *c, FILE *f)
{
    fputs(" --help", f);
    words_of(c->flags, "--", f);
    if (c->common)
        words_of(common_options, "--", f);
    for (size_t i = 0; i < 3 && c->own_keys[i]; i++)
        words_of(c->own_keys[i], "--", f);
    if (c->keys) {
        fputs(" --set", f);
        words_of(scenario_options, "--", f);
    }
}

/* bash, and zsh through its bashcompinit: one function that knows the words. */
static void completion_bash(FILE *f)
{
    fputs("_peosim() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
          "    if [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    if [ \"$cur\" = = ]; then cur=; fi\n"
          "    prev=${prev#--}\n"
          "    case ${prev//-/_} in\n"
          "    model) words=\"",
          f);
    names_in("configs/models/deepseek-v3.json", ".json", f);
    fputs("\" ;;\n    profile|assume_from|cluster.profile) words=\"", f);
    names_in("hw/profiles/h200.yaml", ".yaml", f);
    fputs("\" ;;\n    policy) words=\"", f);
    for (size_t i = 0; i < policy_count(); i++)
        fprintf(f, " %s", policy_at(i)->name);
    fputs("\" ;;\n", f);
    values_of_choices(scenario_options, "    %s) words=\"", f);
    fputs("    esac\n"
          "    if [ -z \"$words\" ] && [ \"$COMP_CWORD\" = 1 ]; then\n"
          "        words=\"",
          f);
    for (size_t i = 0; i < cmd_count(); i++)
        fprintf(f, " %s", cmd_at(i)->name);
    fputs("\"\n    elif [ -z \"$words\" ]; then\n        case ${COMP_WORDS[1]} in\n", f);
    for (size_t i = 0; i < cmd_count(); i++) {
        fprintf(f, "        %s) words=\"", cmd_at(i)->name);
        flags_of(cmd_at(i), f);
        if (cmd_at(i)->keys)
            names_in("configs/dpsk_ep64.yaml", ".yaml", f);
        fputs("\" ;;\n", f);
    }
    fputs("        esac\n    fi\n"
          "    case ${COMP_WORDS[1]} in\n"
          "    info) [ \"$COMP_CWORD\" = 2 ] && words='model profile policy' ;;\n"
          "    completion) words='bash zsh fish' ;;\n"
          "    capacity) words=\"$words",
          f);
    names_in("configs/capacity/dsv3.yaml", ".yaml", f);
    fputs("\" ;;\n    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\") $(compgen -f -- \"$cur\"))\n"
          "}\n",
          f);
}

static void fish_options(const char *command, const struct opt *table, FILE *f)
{
    for (const struct opt *o = table; o && o->key; o++) {
        fprintf(f, "complete -c peosim -n '__fish_seen_subcommand_from %s' -l ", command);
        for (const char *c = o->key; *c; c++)
            fputc(*c == '_' ? '-' : *c, f);
        if (o->type != OPT_BOOL)
            fputs(" -x", f);
        if (o->choices) {
            fputs(" -a '", f);
            for (const char *c = o->choices; *c; c++)
                fputc(*c == '|' ? ' ' : *c, f);
            fputs("'", f);
        }
        fputs(" -d '", f);
        for (const char *c = o->help ? o->help : ""; *c; c++)
            fputs(*c == '\'' ? "\\'" : (char[2]){*c, 0}, f);
        fputs("'\n", f);
    }
}

static void completion_fish(FILE *f)
{
    for (size_t i = 0; i < cmd_count(); i++) {
        const struct cmd *c = cmd_at(i);

        fprintf(f, "complete -c peosim -n __fish_use_subcommand -a %s -d '", c->name);
        for (const char *s = c->summary; *s; s++)
            fputs(*s == '\'' ? "\\'" : (char[2]){*s, 0}, f);
        fputs("'\n", f);
        fish_options(c->name, c->flags, f);
        if (c->common)
            fish_options(c->name, common_options, f);
        if (c->keys) {
            fish_options(c->name, scenario_options, f);
            fprintf(f, "complete -c peosim -n '__fish_seen_subcommand_from %s' -a '", c->name);
            names_in("configs/dpsk_ep64.yaml", ".yaml", f);
            fputs("'\n", f);
        }
    }
    fputs("complete -c peosim -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n"
          "complete -c peosim -n '__fish_seen_subcommand_from info' -a 'model profile policy",
          f);
    names_in("configs/models/deepseek-v3.json", ".json", f);
    names_in("hw/profiles/h200.yaml", ".yaml", f);
    fputs("'\n", f);
}

int manual_completion(const char *shell, FILE *f)
{
    if (!strcmp(shell, "fish")) {
        completion_fish(f);
        return 0;
    }
    if (strcmp(shell, "bash") && strcmp(shell, "zsh"))
        return ERR_USAGE;
    if (!strcmp(shell, "zsh"))
        fputs("autoload -Uz compinit bashcompinit && compinit && bashcompinit\n", f);
    completion_bash(f);
    fputs("complete -F _peosim peosim\n", f);
    return 0;
}
