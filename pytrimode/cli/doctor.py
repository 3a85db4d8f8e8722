"""`pytrimode doctor`: what was found, whether it works, and what to do where it does not."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pytrimode.checks.doctor import Finding, diagnose
from pytrimode.cli.command import Command
from pytrimode.cli.terminal_text import for_terminal

MARKS = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("", None)}
LABEL_WIDTH, MARK_WIDTH = 18, 7


@click.command(name="doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what was found on this machine, and test it.

    Versions, backends, devices and their memory, CPU features, threads; then each device computes causal, block and
    draft rows of the shipped checkpoint, compared with the CPU (the CPU's own: with attention computed exactly). Exit
    code 1 where something does not work.
    """
    findings = []
    for finding in diagnose(notice=lambda text: click.echo(text, err=True)):
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = [finding for finding in findings if finding.ok is False]
    if as_json:
        click.echo(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        click.echo("all is well" if not failed else f"failed: {', '.join(finding.name for finding in failed)}")
    if failed:
        ctx.exit(1)


def _show(finding: Finding) -> None:
    mark, color = MARKS[finding.ok]
    label = click.style(finding.name.ljust(LABEL_WIDTH), bold=True)
    click.echo(f"{label} {click.style(mark.ljust(MARK_WIDTH), fg=color)}{for_terminal(finding.found)}")
    if finding.advice:
        click.echo(f"{' ' * (LABEL_WIDTH + 1 + MARK_WIDTH)}-> {for_terminal(finding.advice)}")
