#!/bin/bash
# How the weights of `compact` and `compact-msd` were made: eighteen and a half hours on two cores, and 160 GB of disk.
#
# They were not made in one go, and some commands were cut short: the first two runs had 1,400 rendered clips; the third
# to the fifth had the first 1,758 varied copies; late.keras is the mean of the sixth run after two of its five epochs
# and the seventh after one of its three; runs/hints learnt from 1,800 clips, for two of five epochs at a falling rate,
# and the columns of its tags were set back to those of eighteenth.keras. Of the scores, all_0.8.jsonl had every other
# one, ensembles_too.jsonl the other half, and mostly_clips.jsonl every second and every fifth. Only the first copies in
# varied_again had hidden values. The last ten runs were validated with the 150 rendered scores of data/scores. HASH is
# the folder of data/varied.jsonl, whose validation clips include rendered scores.
set -euo pipefail
export PYTHONPATH=tools
python tools/corpus.py --collection pretraining --out_dir data/pretraining
python -m pretrain.clips --corpus data/pretraining --out data/clips
python -m pretrain.teacher --manifest data/clips/manifest.jsonl --out data/labels --vocabulary MTT --vocabulary MSD
python -m pretrain.vary --manifest data/clips/manifest.jsonl --out data/varied --copies 2
python -m pretrain.teacher --manifest data/varied/manifest.jsonl --out data/varied_labels --vocabulary MTT
python -m pretrain.scores --out data/scores --n_train 3000
python -m pretrain.teacher --manifest data/scores/manifest.jsonl --split test --out data/score_labels
python -m pretrain.teacher --manifest data/scores/manifest.jsonl --split train --out data/score_teacher --vocabulary MTT
for present in 0.4 0.6; do
    python -m pretrain.correct --scores data/scores/manifest.jsonl --labels data/score_teacher/manifest.jsonl \
        --present $present --absent "$([ $present = 0.4 ] && echo 0.08 || echo 0.04)" --out data/corrected_$present
    python -m pretrain.join --out data/all_$present.jsonl data/labels/manifest.jsonl data/varied_labels/manifest.jsonl \
        data/corrected_$present/manifest.jsonl
done
python -m pretrain.join --out data/pretrain.jsonl data/labels/manifest.jsonl data/scores/manifest.jsonl
python -m pretrain.join --out data/varied.jsonl data/labels/manifest.jsonl data/scores/manifest.jsonl data/varied_labels/manifest.jsonl
python -m pretrain.join --out data/free.jsonl data/labels/manifest.jsonl data/varied_labels/manifest.jsonl
keras-tagger fit pretrain --run_dir runs/compact
keras-tagger fit pretrain --run_dir runs/second --set training.init=runs/compact \
    --set training.epochs=4 --set training.learning_rate=0.0005 --set training.warmup_epochs=0.2 \
    --set training.contribution_loss=0.5 --set training.augment.equalize_db=4 \
    --set training.augment.n_time_masks=1 --set training.augment.time_mask_frames=60 \
    --set training.augment.n_freq_masks=1 --set training.augment.freq_mask_bins=10
further() {
    keras-tagger fit pretrain --data "$1" --run_dir "$2" --set training.init="$3" --set training.epochs="$4" \
        --set training.learning_rate="$5" --set training.seed="$6" --set training.warmup_epochs=0.1 \
        --set training.contribution_loss=1 --set training.temperature=2 --set training.freeze=statistics \
        --set training.augment.gain_db=1.5 --set training.augment.equalize_db=1
}
further data/varied.jsonl runs/third runs/second 6 0.0006 0
python -m pretrain.average --out runs/mean.keras runs/second=0.3 runs/third=0.7
further data/free.jsonl runs/fourth runs/mean.keras 2 0.0004 1
further data/free.jsonl runs/fifth runs/fourth 3 0.0005 2
python -m pretrain.average --out runs/middle.keras runs/third=0.1 runs/fourth=0.3 runs/fifth=0.6
further data/free.jsonl runs/sixth runs/middle.keras 5 0.0005 11
further data/all_0.4.jsonl runs/seventh runs/middle.keras 3 0.0005 12
python -m pretrain.average --out runs/late.keras runs/sixth=0.5 runs/seventh=0.5
further data/all_0.6.jsonl runs/eighth runs/late.keras 2 0.00035 13
further data/all_0.6.jsonl runs/ninth runs/eighth 1 0.0003 21
further data/all_0.6.jsonl runs/tenth runs/eighth 1 0.0003 22
python -m pretrain.average --out runs/tenth.keras runs/ninth runs/tenth
python -m pretrain.scores --out data/more_scores --n_train 4500 --n_valid 0 --n_test 0 --seed 1
python -m pretrain.vary --manifest data/more_scores/manifest.jsonl --out data/varied_scores --copies 1 --seed 5
python -m pretrain.teacher --manifest data/varied_scores/manifest.jsonl --out data/varied_scores_teacher --vocabulary MTT
for scores in scores varied_scores; do
    labels=data/$([ $scores = scores ] && echo score_teacher || echo varied_scores_teacher)/manifest.jsonl
    python -m pretrain.correct --scores data/$scores/manifest.jsonl --labels $labels --present 0.8 --absent 0.02 \
        --out data/${scores}_corrected
done
python -m pretrain.join --one_in 2 --out data/half_scores.jsonl data/scores_corrected/manifest.jsonl
python -m pretrain.join --out data/all_0.8.jsonl data/labels/manifest.jsonl data/varied_labels/manifest.jsonl \
    data/half_scores.jsonl data/varied_scores_corrected/manifest.jsonl
further data/all_0.8.jsonl runs/eleventh runs/tenth.keras 4 0.0005 31
further data/all_0.8.jsonl runs/twelfth runs/tenth.keras 4 0.0005 32
python -m pretrain.average --out runs/twelfth.keras runs/eleventh=0.35 runs/twelfth=0.35 runs/tenth.keras=0.3
again() {
    python -m pretrain.vary --manifest data/clips/manifest.jsonl --out "data/$1" --copies "$2" --seed "$3" --mixed_share "$4"
    python -m pretrain.teacher --manifest "data/$1/manifest.jsonl" --out "data/$1_labels" --vocabulary MTT
}
again varied_again 2 9 0.5
again varied_mixed 1 13 0.6
believed=runs/twelfth.keras
corrected() {
    python -m pretrain.teacher --teacher $believed --manifest "data/$1/manifest.jsonl" --out "data/$1_own"
    python -m pretrain.correct --scores "data/$1/manifest.jsonl" --labels "data/$1_own/manifest.jsonl" --only_corrected \
        --present "$3" --absent "$4" --out "data/$1_$2"
}
python -m pretrain.scores --out data/third_scores --n_train 1507 --n_valid 0 --n_test 0 --seed 2
python -m pretrain.scores --out data/ensembles --n_train 2055 --n_valid 0 --n_test 0 --seed 3 --texture ensemble
for scores in third_scores ensembles; do
    python -m pretrain.vary --manifest data/$scores/manifest.jsonl --out data/varied_$scores --copies 1 --seed 7 --mixed_share 0
done
python -m pretrain.remix --manifest data/scores/manifest.jsonl --manifest data/more_scores/manifest.jsonl \
    --manifest data/third_scores/manifest.jsonl --out data/remixed --n_clips 5000
for scores in varied_third_scores varied_ensembles remixed; do corrected $scores sharp 0.9 0.01; done
for scores in varied_ensembles remixed; do corrected $scores soft 0.8 0.02; done
python -m pretrain.join --out data/ensembles_too.jsonl data/labels/manifest.jsonl data/varied_labels/manifest.jsonl \
    data/varied_again_labels/manifest.jsonl data/varied_mixed_labels/manifest.jsonl data/half_scores.jsonl \
    data/varied_scores_corrected/manifest.jsonl data/varied_third_scores_sharp/manifest.jsonl \
    data/varied_ensembles_sharp/manifest.jsonl data/remixed_sharp/manifest.jsonl
further data/ensembles_too.jsonl runs/fifteenth runs/twelfth.keras 2 0.0005 41
further data/ensembles_too.jsonl runs/sixteenth runs/twelfth.keras 2 0.0005 42
python -m pretrain.average --out runs/sixteenth.keras runs/fifteenth=0.35 runs/sixteenth=0.35 runs/twelfth.keras=0.3
python -m pretrain.join --one_in 2 --out data/half_varied_scores.jsonl data/varied_scores_corrected/manifest.jsonl
python -m pretrain.join --one_in 5 --out data/some_remixed.jsonl data/remixed_soft/manifest.jsonl
python -m pretrain.join --out data/mostly_clips.jsonl data/labels/manifest.jsonl data/varied_again_labels/manifest.jsonl \
    data/varied_mixed_labels/manifest.jsonl data/half_varied_scores.jsonl data/some_remixed.jsonl \
    data/varied_ensembles_soft/manifest.jsonl
further data/mostly_clips.jsonl runs/seventeenth runs/sixteenth.keras 1 0.0004 51
further data/mostly_clips.jsonl runs/eighteenth runs/sixteenth.keras 1 0.0004 52
python -m pretrain.average --out runs/eighteenth.keras runs/seventeenth=0.3 runs/eighteenth=0.3 runs/twelfth.keras=0.4
python -m pretrain.teacher --manifest data/clips/manifest.jsonl --out data/hinted --vocabulary MTT --vocabulary MSD --hidden MTT
python -m pretrain.vary --manifest data/clips/manifest.jsonl --out data/varied_hinted --copies 1 --seed 9
python -m pretrain.teacher --manifest data/varied_hinted/manifest.jsonl --out data/varied_hinted_labels \
    --vocabulary MTT --hidden MTT
python -m pretrain.scores --out data/timbres --n_train 2600 --n_valid 0 --n_test 0 --seed 4 --texture single --vary_timbre
python -m pretrain.remix --manifest data/timbres/manifest.jsonl --manifest data/scores/manifest.jsonl \
    --manifest data/third_scores/manifest.jsonl --out data/remixed_timbres --n_clips 5000 --seed 5
believed=runs/eighteenth.keras
for scores in timbres remixed_timbres; do corrected $scores soft 0.8 0.02; done
share() { python -m pretrain.join --one_in "$1" --out "data/$2_in_$1.jsonl" "data/$2/manifest.jsonl"; }
share 2 hinted; share 3 timbres_soft; share 4 remixed_soft; share 5 remixed_soft; share 2 remixed_timbres_soft
share 2 varied_again_labels; share 2 varied_mixed_labels; share 4 varied_scores_corrected; share 2 varied_ensembles_soft
keras-tagger fit pretrain --data data/hinted_in_2.jsonl --run_dir runs/hints \
    --set training.init=runs/eighteenth.keras --set training.freeze=all_but_head --set training.epochs=2 \
    --set training.learning_rate=0.003 --set training.warmup_epochs=0.05 --set training.temperature=2 \
    --set training.augment.gain_db=1.5 --set training.augment.equalize_db=1
python -m pretrain.join --out data/hints_too.jsonl data/hinted/manifest.jsonl data/varied_hinted_labels/manifest.jsonl \
    data/varied_mixed_labels/manifest.jsonl data/varied_again_labels_in_2.jsonl data/varied_scores_corrected_in_4.jsonl \
    data/remixed_soft_in_4.jsonl data/varied_ensembles_soft/manifest.jsonl data/remixed_timbres_soft_in_2.jsonl \
    data/timbres_soft_in_3.jsonl
further data/hints_too.jsonl runs/nineteenth runs/hints 2 0.0005 61
further data/hints_too.jsonl runs/twentieth runs/hints 2 0.0005 62
python -m pretrain.average --out runs/twentieth.keras runs/nineteenth runs/twentieth
python -m pretrain.vary --manifest data/clips/manifest.jsonl --out data/varied_valid --copies 6 --seed 21 --mixed_share 0.6 \
    --split valid
python -m pretrain.teacher --manifest data/varied_valid/manifest.jsonl --out data/varied_valid_labels \
    --vocabulary MTT --hidden MTT
python -m pretrain.join --learn_valid --out data/valid_too.jsonl data/hinted/manifest.jsonl \
    data/varied_hinted_labels/manifest.jsonl data/varied_valid_labels/manifest.jsonl data/varied_mixed_labels_in_2.jsonl \
    data/varied_again_labels_in_2.jsonl data/varied_scores_corrected_in_4.jsonl data/remixed_soft_in_5.jsonl \
    data/varied_ensembles_soft_in_2.jsonl data/remixed_timbres_soft_in_2.jsonl
further data/valid_too.jsonl runs/twenty_first runs/twentieth.keras 1 0.0004 71
further data/valid_too.jsonl runs/twenty_second runs/twentieth.keras 1 0.0004 72
python -m pretrain.average --out runs/twenty_second.keras runs/twenty_first runs/twenty_second
python -m pretrain.average --out runs/mostly.keras runs/twenty_first=0.3 runs/twenty_second=0.3 runs/eighteenth.keras=0.4
share 2 varied_hinted_labels
python -m pretrain.join --learn_valid --out data/mixtures_too.jsonl data/hinted/manifest.jsonl \
    data/varied_hinted_labels_in_2.jsonl data/varied_valid_labels/manifest.jsonl data/varied_ensembles_soft_in_2.jsonl \
    data/remixed_timbres_soft/manifest.jsonl data/timbres_soft/manifest.jsonl
further data/mixtures_too.jsonl runs/twenty_third runs/twenty_second.keras 1 0.0004 81
further data/mixtures_too.jsonl runs/twenty_fourth runs/twenty_second.keras 1 0.0004 82
python -m pretrain.average --out runs/twenty_fourth.keras runs/twenty_third runs/twenty_fourth
python -m pretrain.average --out runs/mixed.keras runs/twenty_third=0.3 runs/twenty_fourth=0.3 runs/mostly.keras=0.4
effects() {
    python -m pretrain.vary --manifest data/clips/manifest.jsonl --out "data/$1" --effects --seed "$2" --copies "$3" \
        --mixed_share "$4" --split "$5" "${@:6}"
    python -m pretrain.teacher --manifest "data/$1/manifest.jsonl" --out "data/$1_labels" --vocabulary MTT --hidden MTT
}
effects effects 31 1 0.4 train
effects effects_mixed 32 1 0.6 train
effects effects_valid 33 4 0.5 valid
solos="--manifest data/timbres/manifest.jsonl --manifest data/scores/manifest.jsonl --manifest data/third_scores/manifest.jsonl"
python -m pretrain.remix $solos --out data/remixed_apart --n_clips 6000 --seed 6 --apart
python -m pretrain.remix $solos --out data/remixed_hard --n_clips 3000 --seed 7 --apart --first synth --first cello \
    --first choir --first violin --first strings --first piano
believed=runs/mixed.keras
for scores in remixed_apart remixed_hard; do corrected $scores soft 0.8 0.02; done
share 2 timbres_soft; share 3 remixed_timbres_soft
python -m pretrain.join --learn_valid --out data/effects_too.jsonl data/hinted/manifest.jsonl \
    data/varied_hinted_labels_in_2.jsonl data/varied_valid_labels/manifest.jsonl data/effects_labels/manifest.jsonl \
    data/effects_mixed_labels/manifest.jsonl data/effects_valid_labels/manifest.jsonl data/varied_ensembles_soft_in_2.jsonl \
    data/varied_scores_corrected_in_4.jsonl data/remixed_timbres_soft_in_3.jsonl data/remixed_apart_soft/manifest.jsonl \
    data/remixed_hard_soft/manifest.jsonl data/timbres_soft_in_2.jsonl
further data/effects_too.jsonl runs/twenty_fifth runs/twenty_fourth.keras 1 0.0005 91
further data/effects_too.jsonl runs/twenty_sixth runs/twenty_fourth.keras 1 0.0005 92
python -m pretrain.average --out runs/twenty_sixth.keras runs/twenty_fifth runs/twenty_sixth
python -m pretrain.average --out runs/apart.keras runs/twenty_fifth=0.3 runs/twenty_sixth=0.3 runs/mixed.keras=0.4
further data/effects_too.jsonl runs/twenty_seventh runs/twenty_sixth.keras 1 0.0004 93
further data/effects_too.jsonl runs/twenty_eighth runs/twenty_sixth.keras 1 0.0004 94
python -m pretrain.average --out runs/twenty_eighth.keras runs/twenty_seventh runs/twenty_eighth
python -m pretrain.average --out runs/apart_again.keras runs/twenty_seventh=0.3 runs/twenty_eighth=0.3 runs/apart.keras=0.4
effects effects_again 41 2 0.5 train
effects effects_more 42 1 0.6 train
played="--added data/scores/manifest.jsonl --added data/third_scores/manifest.jsonl --added data/ensembles/manifest.jsonl"
effects effects_played 43 1 1 train $played --added data/timbres/manifest.jsonl
python -m pretrain.remix $solos --out data/remixed_more --n_clips 2400 --seed 8 --apart
believed=runs/apart_again.keras
corrected remixed_more soft 0.8 0.02
share 2 varied_valid_labels; share 2 effects_labels; share 2 effects_mixed_labels; share 2 remixed_apart_soft
python -m pretrain.join --learn_valid --out data/more_effects.jsonl data/hinted/manifest.jsonl \
    data/varied_valid_labels_in_2.jsonl data/effects_labels_in_2.jsonl data/effects_mixed_labels_in_2.jsonl \
    data/effects_valid_labels/manifest.jsonl data/effects_again_labels/manifest.jsonl data/effects_more_labels/manifest.jsonl \
    data/effects_played_labels/manifest.jsonl data/varied_ensembles_soft_in_2.jsonl data/varied_scores_corrected_in_4.jsonl \
    data/remixed_apart_soft_in_2.jsonl data/remixed_hard_soft/manifest.jsonl data/remixed_more_soft/manifest.jsonl \
    data/timbres_soft_in_2.jsonl
further data/more_effects.jsonl runs/twenty_ninth runs/twenty_eighth.keras 1 0.0005 95
further data/more_effects.jsonl runs/thirtieth runs/twenty_eighth.keras 1 0.0005 96
python -m pretrain.average --out runs/compact.keras runs/twenty_ninth=0.3 runs/thirtieth=0.3 runs/apart_again.keras=0.4
python -m pretrain.ship --run_dir runs/compact.keras --data runs/prepared/HASH --name compact --tags mtat
python -m pretrain.ship --run_dir runs/compact.keras --data runs/prepared/HASH --name compact-msd --tags msd
