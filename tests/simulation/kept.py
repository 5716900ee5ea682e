"""Seeds that found something, and what each taught. A seed means what it does with this code."""

from dataclasses import dataclass

FIXED = tuple(range(2, 12))
"""Worlds that every test run goes through, chosen because they were clean when chosen."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One seed and its lesson."""

    seed: int
    taught: str


KEPT = (
    Kept(
        12,
        "Management network lost: os.hb.lost{mgmt} and collector.lost are one plane, not two; the "
        "pulses of a collector travel by the management network (H6).",
    ),
    Kept(
        15,
        "Tenant network lost: vs.bfd.down travels by the tenant network, so with os.hb.lost and "
        "peer.reach{tenant} it is still one plane (C06).",
    ),
    Kept(
        27,
        "One liar tells everything of a host; the second source is app.health.bad of an app "
        "elsewhere that only calls one on it, and fails for another reason (I3, H5).",
    ),
    Kept(
        29,
        "The target of a fence is walked anew after its VMs have moved, and then is the host "
        "they moved to: a healthy one is fenced, and then the next.",
    ),
    Kept(
        204,
        "A peer says hw.power.off of a host whose BMC it cannot read, and one VM there crashed: "
        "that is taken for a hard fact and a second source, and a host that is well is fenced.",
    ),
    Kept(
        130,
        "Two hosts of different racks are fenced at the same time; the budget is one (d5).",
    ),
    Kept(
        228,
        "A third host in ten minutes is fenced for its storage: the share of the fleet counts "
        "roots of the kind host, and that root is a group (I5).",
    ),
    Kept(
        221,
        "An incident stood for minutes after all was mended: the clock of a source was set back, "
        "so its clears counted as older than its raises (H24, I8).",
    ),
    Kept(
        587,
        "One liar about a host that had panicked and come back: what was witnessed of its old life "
        "still counted as the second source (I3).",
    ),
    Kept(
        10117,
        "A lost tenant network, a lost pool and a liar together looked like a dead host on two "
        "planes, while its own collector was still heard (C03, X22).",
    ),
    Kept(
        10145,
        "A third host in ten minutes was fenced: its incident had first named a VM, and a root "
        "that an incident comes to name later was not counted (I5).",
    ),
    Kept(
        10258,
        "A third host was fenced by a plan about paths, which counted groups and no hosts (I5).",
    ),
    Kept(
        10170,
        "What was kept during a partition came after the live clears of other sources, and raised "
        "again what had ended; each source is now held to its own order (I8, X15).",
    ),
    Kept(
        10292,
        "A successor sent again what its predecessor had decided and never sent, in the middle of "
        "a gap (I4, X3).",
    ),
    Kept(
        10466,
        "A liar about a host whose collector had died, then both switches of its rack: the second "
        "witness came with the common cause, and the hold had long passed (H7, C04b).",
    ),
    Kept(
        10687,
        "A fence was given up, its proof came late and was not taken; the next method ran beside "
        "it, since another action of the same target had let go of the lock (I5, H3).",
    ),
    Kept(
        30000,
        "A plan that the share of the fleet refuses, or that waits for a proof, waited for ever "
        "and nobody was called (I8).",
    ),
    Kept(
        31149,
        "Two actions for one target at once: one is refused as locked, was never sent again, and "
        "the host never came back (I8, H18).",
    ),
    Kept(
        31161,
        "The management network of a host was lost, and ten seconds later the tenant network of "
        "its rack: the second plane had no time to show whose it was (H7).",
    ),
    Kept(
        31213,
        "A liar told of one plane and the loss of another network of the other: no plane may rest "
        "on one witness (I3, H5).",
    ),
    Kept(
        33294,
        "After a restart the witnesses of an incident were told in another order (I11).",
    ),
    Kept(
        50773,
        "A host came back while an operator's hold lasted, unseen by observers that were cut off; "
        "at the release it was fenced on what they had told before (H9, I3).",
    ),
    Kept(
        50263,
        "All paths of a host are down, and its lease is stale: a fact of its own and a second "
        "observer, on one network by nature (C12b).",
    ),
    Kept(
        50592,
        "A rack loses its way to the storage, and one host of it is fenced for its own paths: what "
        "the host shares counts, and not only what its paths share (H7, C12c).",
    ),
    Kept(
        60133,
        "A granted symptom ended, stood again, and was weighed anew only after a restore (I11).",
    ),
    Kept(
        61165,
        "The same with a clock that was wrong: restored and lived state differed (I11).",
    ),
    Kept(
        61198,
        "A VM's restart was decided on by a worker that died, refused by the actuator, and nobody "
        "was called: what was tried in vain and is still needed calls a person (I8, H18).",
    ),
    Kept(
        71213,
        "A management network was lost, a pool failed, a BMC said OFF: a hard fact stood in for "
        "the second plane, which the contract never allowed (d5, X22, C03).",
    ),
    Kept(
        71736,
        "The same at once: 0.2 s after the BMC's lie, before the silence of the tenant network "
        "could be missed (X22).",
    ),
    Kept(
        72309,
        "A liar, and the storage network of the rack: the lease of a host goes stale long after "
        "those of its neighbours, and was taken for a second witness (H7, X01).",
    ),
    Kept(
        71332,
        "The only host of a rack that was in service was cut off with its rack: nothing can show "
        "that it shares that, and it can neither serve nor be managed (the oracle was wrong).",
    ),
    Kept(
        71846,
        "Two racks and a pool failed together; a rack stayed a suspicion for minutes and its "
        "policy, which calls a person, was never asked (I8).",
    ),
    Kept(
        74758,
        "A lost management network and a liar about the tenant network: the verdict must stand "
        "whichever one witness is wrong (I3, H5).",
    ),
    Kept(
        75068,
        "A liar of two networks, and a BMC that said OFF as the second witness (H5, X22).",
    ),
    Kept(
        73916,
        "An uplink of a rack was lost and few observers were left; in the moment in which the rack "
        "was no longer named a host of it was fenced, its neighbours silent and unexplained (H7).",
    ),
    Kept(
        74100,
        "After a restore an incident that held nothing was checked at once for its end (I11).",
    ),
    Kept(
        73004,
        "An evacuation was refused, the rest of the plan waited to let the host back, and nobody "
        "was called about the VM (I8, H18).",
    ),
    Kept(
        74103,
        "A cable or its card, nobody could say; nobody was told of it for minutes (I8).",
    ),
    Kept(
        75491,
        "A person asked for the whole ladder twice: a third fence of one host is their decision "
        "(the oracle was wrong, I5).",
    ),
    Kept(
        91629,
        "A VM crashed soon after its evacuation: its silence was still given to the host that it "
        "had left, so that the crash had one witness for ever (I8, X18).",
    ),
    Kept(
        77040,
        "A host stayed dead past its maintenance, and its silence belonged to the rack that had "
        "failed before: a session's end asks anew of all that stands on its host (C18).",
    ),
    Kept(
        73,
        "A host that was kept from its storage must not get it back before the copies that moved "
        "away are ended there; it was the simulated operator who did so (I2).",
    ),
    Kept(
        203750,
        "A restored engine dated a granted crowd from a profile nobody had weighed, so a guest "
        "beside it was as sure as it had not been before (I11).",
    ),
    Kept(
        209361,
        "The same in a lived engine, with a profile as old as the last that asked for it (I11).",
    ),
    Kept(
        202609,
        "A fence failed, and its incident stood for 206 s with nobody called (I8).",
    ),
    Kept(
        305580,
        "A granted cause kept the onset of the look before, a restored engine had the newer (I11).",
    ),
    Kept(
        300883,
        "A pool stayed a rival after the one symptom it cannot do without had ended; a restored "
        "engine no longer thought of it (I11).",
    ),
    Kept(
        304073,
        "One method of a fence timed out after the next had given its proof: not in vain (I8, an "
        "oracle that was wrong).",
    ),
    Kept(
        400449,
        "A host lost its management network, and within a second a liar told that it was silent on "
        "the other: three who see the first silent and not the other contradict it (H5, X01).",
    ),
    Kept(405061, "The same, with a lying BMC beside it."),
    Kept(
        401809,
        "A host that comes back by itself needs nobody to be called (I8, a wrong oracle).",
    ),
    Kept(
        507756,
        "A correlator died with a fence on its way; its successor sent it again for a host that "
        "had come back meanwhile (I3): what speaks for a fence is asked again.",
    ),
    Kept(
        507049,
        "The same with an evacuation, to a host that had gone under maintenance meanwhile (I4).",
    ),
    Kept(
        700437,
        "What waited for a guard was put under maintenance with its host: a person has it in hand "
        "(I8, a wrong oracle).",
    ),
    Kept(
        707857,
        "A VM had run elsewhere and ended there; whoever brings its old host back ends the old "
        "copy first, wherever the cloud's record says it is (I2, a wrong operator).",
    ),
    Kept(
        805335,
        "An incident was merged, and in the same look a symptom given to it, as the cause that had "
        "been granted before; the next word on its host found it gone, and the engine raised.",
    ),
    Kept(
        810433,
        "A host under maintenance died while its VMs were to leave it and could not: what may no "
        "longer be tried was in vain, and a person is told (I8).",
    ),
    Kept(
        820176,
        "A VM had arrived, though one attempt had failed, and its pool was away when the oracle "
        "looked whether it serves (I8, a wrong oracle).",
    ),
    Kept(
        825459,
        "A drain waited, and its host was taken down under it; when maintenance ended a person was "
        "called about that host by another incident (I8, a wrong oracle).",
    ),
    Kept(
        905808,
        "A host already fenced and emptied lost its paths; the plan waited to be surer, was, and "
        "had nothing to do; the oracle thought that it still waited (I8, a wrong oracle).",
    ),
)
