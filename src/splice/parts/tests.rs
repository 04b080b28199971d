use super::*;
use crate::archive::zip::ZipIndex;
use crate::archive::zip::testing::sparse_index;
use crate::contents::{KeptEntry, KeptName};
use crate::splice::plan_splice;

const GIB: u64 = 1 << 30;

/// Files of these sizes under `app/`.
fn archive(sizes: impl IntoIterator<Item = u64>) -> ZipIndex {
    let names = (0..).map(|n| format!("app/file-{n:08}"));
    sparse_index(names.zip(sizes))
}

/// What is kept where the first `skip` bytes of each name go.
fn kept(zip: &ZipIndex, skip: u32) -> Vec<KeptEntry> {
    let entry = |index| KeptEntry {
        index,
        name: KeptName::Suffix { skip },
    };
    (0..zip.len() as u32).map(entry).collect()
}

fn one_level() -> PartLimits {
    PartLimits {
        joins: Joins::Never,
        ..PartLimits::default()
    }
}

/// The parts of a prefix strip, held against S3's rules.
fn planned(sizes: impl IntoIterator<Item = u64>, limits: &PartLimits) -> PartPlan {
    let zip = archive(sizes);
    let kept = kept(&zip, 4);
    let plan = plan_splice(&zip, &kept).unwrap();
    let planned = plan_parts(&plan, limits).unwrap();
    let parts = planned.parts();
    if let Some((last, others)) = parts.split_last() {
        assert!(parts.len() as u64 <= limits.parts_max);
        assert!(
            others
                .iter()
                .all(|part| part.length() >= limits.part_bytes_min)
        );
        assert!(
            parts
                .iter()
                .all(|part| part.length() <= limits.part_bytes_max)
        );
        assert!(last.length() > 0);
        let length: u64 = parts.iter().map(Part::length).sum();
        assert_eq!(length, plan.output_size());
    }
    for join in planned.joins() {
        assert!(join.copied.length() >= limits.part_bytes_min);
        assert!(join.upload.output_bytes() < limits.part_bytes_min);
    }
    planned
}

fn kinds(plan: &PartPlan) -> String {
    plan.parts()
        .iter()
        .map(|part| match part {
            Part::Copy(_) => 'c',
            Part::Upload(_) => 'u',
            Part::Join(_) => 'j',
        })
        .collect()
}

#[test]
fn ok_an_unchanged_object_is_copied_whole_or_in_large_parts_whichever_is_faster() {
    let limits = PartLimits::default();
    let plan_of = |size| plan_parts(&SplicePlan::identity(size), &limits).unwrap();
    let small = plan_of(64 * MIB);
    assert_eq!(small.delivery, Delivery::CopyObject);
    assert_eq!(small.traffic.requests, 1);
    for size in [729 * MIB, 5 * GIB + 1] {
        let large = plan_of(size);
        assert_eq!(kinds(&large), "c".repeat(size.div_ceil(64 * MIB) as usize));
        assert_eq!(large.traffic.copied_bytes, size);
        assert_eq!(large.traffic.put_bytes, 0);
    }
    let in_one_request = PartLimits {
        copy_part_bytes: u64::MAX,
        ..limits
    };
    let whole = plan_parts(&SplicePlan::identity(5 * GIB), &in_one_request).unwrap();
    assert_eq!(whole.delivery, Delivery::CopyObject);
    let read_already = limits.read_already_bytes_max;
    assert!(matches!(
        plan_of(read_already).delivery,
        Delivery::PutObject(_)
    ));
    assert_eq!(plan_of(read_already + 1).delivery, Delivery::CopyObject);
}

#[test]
fn ok_a_small_revision_is_one_put() {
    let limits = PartLimits::default();
    let plan = planned([1000; 3_500], &limits);
    assert!(matches!(plan.delivery, Delivery::PutObject(_)), "{plan:?}");
    let gets = plan.traffic.got_bytes.div_ceil(limits.get_bytes_max);
    assert_eq!(plan.traffic.requests, gets + 1);
}

#[test]
fn ok_reads_that_begin_together_do_not_end_together() {
    for sizes in [[1000; 7_000].as_slice(), &[1000; 40_000]] {
        let plan = planned(sizes.iter().copied(), &PartLimits::default());
        let gets: Vec<_> = plan
            .uploads()
            .flat_map(Upload::gets)
            .map(ByteRange::length)
            .collect();
        let (together, later) = gets.split_at(cost::READS_IN_FLIGHT);
        // The last of them may be the end of a body.
        let (_, ascending) = together.split_last().unwrap();
        assert!(ascending.is_sorted_by(|a, b| a + 100_000 < *b), "{gets:?}");
        assert!(gets.iter().all(|length| *length <= 2 * MIB), "{gets:?}");
        // The others are as large as may be, but for the ends of bodies.
        let largest = later.iter().filter(|length| **length > 2 * MIB - 2_000);
        assert!(2 * largest.count() + 1 >= later.len(), "{gets:?}");
    }
}

#[test]
fn ok_large_contents_are_copied_and_small_ones_are_filler() {
    let plan = planned([1000, 2 * GIB, 1000], &one_level());
    assert!(kinds(&plan).starts_with("uc") && kinds(&plan).ends_with("cu"));
    let traffic = plan.traffic;
    assert!(traffic.got_bytes < 5 * MIB + 4_000, "{traffic}");
    assert!(traffic.copied_bytes > 2 * GIB - 6 * MIB);
}

#[test]
fn ok_stretches_just_long_enough_are_copied() {
    let copies = |size: u64| {
        kinds(&planned([size, MIB], &one_level()))
            .matches('c')
            .count()
    };
    // The header before it and its filler are a part, and so has what is left to be.
    let header = 30 + "file-00000000".len() as u64;
    let least = 10 * MIB - header;
    assert_eq!((copies(least), copies(least - 1)), (1, 0));
}

#[test]
fn ok_small_files_before_a_large_one_are_its_filler() {
    let small = std::iter::repeat_n(MIB, 6);
    let plan = planned(small.chain([100 * MIB]), &PartLimits::default());
    assert!(plan.traffic.put_bytes < 6 * MIB + 2_000, "{}", plan.traffic);
}

#[test]
fn ok_twenty_of_fifty_megabytes_pass_by_two_percent() {
    let sizes = (0..645).map(|n| if n % 32 == 7 { 50 * MIB } else { 2_000 });
    let total: u64 = sizes.clone().sum();
    let plan = planned(sizes.clone(), &PartLimits::default());
    assert!(plan.traffic.joins >= 19, "{}", kinds(&plan));
    let through = plan.traffic.got_bytes.max(plan.traffic.put_bytes);
    assert!(through * 50 < total, "{}", plan.traffic);
    let one_level = planned(sizes, &one_level());
    assert!(plan.seconds < one_level.seconds);
    assert!(plan.traffic.put_bytes * 5 < one_level.traffic.put_bytes);
}

#[test]
fn ok_one_gap_is_not_worth_a_temporary_object() {
    let plan = planned([50 * MIB, 100, 50 * MIB], &PartLimits::default());
    assert_eq!(plan.traffic.joins, 0, "{}", kinds(&plan));
}

#[test]
fn ok_a_hundred_gibibytes_of_a_thousand_entries_pass_by_ten_megabytes() {
    let zip = archive([GIB / 10; 1_000]);
    let kept = kept(&zip, 4);
    let plan = plan_splice(&zip, &kept).unwrap();
    let planned = plan_parts(&plan, &PartLimits::default()).unwrap();
    let traffic = planned.traffic;
    assert_eq!(traffic.joins, 999);
    assert!(
        traffic.got_bytes + traffic.put_bytes < 12_000_000,
        "{traffic}"
    );
    assert!(traffic.got_bytes < 10_000_000 && traffic.put_bytes < 10_000_000);
    assert!(planned.parts().len() <= 10_000);
    // No more is copied twice than a part needs.
    assert!(traffic.copied_bytes < plan.output_size() + 1_000 * 11 * MIB);
}

#[test]
fn ok_thousands_of_middling_files_fit_into_ten_thousand_parts() {
    let plan = planned(std::iter::repeat_n(11 * MIB, 9_000), &one_level());
    assert!(plan.parts().len() > 5_000, "{}", plan.parts().len());
    // With temporary objects nearly everything is copied, one part for each.
    let joined = planned(std::iter::repeat_n(11 * MIB, 9_000), &PartLimits::default());
    assert!(joined.traffic.joins > 8_990, "{}", joined.traffic);
    assert!(joined.traffic.put_bytes < 8 * MIB);
    // The largest contents are copied all the same.
    let sizes = (0..12_000).map(|i| if i % 6 == 0 { 200 * MIB } else { 11 * MIB });
    let plan = planned(sizes, &PartLimits::default());
    assert!(
        plan.traffic.copied_bytes > 2_000 * 190 * MIB,
        "{}",
        plan.traffic
    );
}

#[test]
fn ok_what_lies_between_many_gaps_is_not_read_at_once() {
    // Thumbnails that are kept between pictures that are not.
    for (thumbnail, count) in [(1_000, 3_000), (20_000, 4_000)] {
        let sizes = (0..2 * count).map(|n| if n % 2 == 0 { thumbnail } else { 900_000 });
        let zip = archive(sizes);
        let kept: Vec<_> = kept(&zip, 4).into_iter().step_by(2).collect();
        let plan = plan_splice(&zip, &kept).unwrap();
        let planned = plan_parts(&plan, &PartLimits::default()).unwrap();
        let uploads = planned
            .uploads()
            .chain(planned.joins().map(|join| &join.upload));
        let gets: Vec<_> = uploads
            .flat_map(Upload::gets)
            .map(ByteRange::length)
            .collect();
        assert!(gets.iter().all(|length| *length <= 8 * MIB), "{gets:?}");
        // And the time that reading them takes is seen.
        let got: u64 = gets.iter().sum();
        assert_eq!(got, planned.traffic.got_bytes);
        assert!(planned.seconds >= got as f64 / cost::THROUGH_BYTES_PER_SECOND);
    }
}

#[test]
fn ok_gaps_are_read_through_up_to_their_limit() {
    let gets = |gap: u64| {
        let zip = archive([10, gap, 20]);
        let kept: Vec<_> = kept(&zip, 4).into_iter().step_by(2).collect();
        let plan = plan_splice(&zip, &kept).unwrap();
        plan_parts(&plan, &PartLimits::default()).unwrap().passing()
    };
    let header = 30 + "app/file-00000000".len() as u64;
    assert_eq!(
        gets(MIB - header),
        [ByteRange::new(0, MIB + 2 * header + 30)]
    );
    let apart = gets(MIB - header + 1);
    let second = MIB + 1 + header + 10;
    assert_eq!(
        apart,
        [
            ByteRange::new(0, header + 10),
            ByteRange::new(second, second + header + 20)
        ]
    );
}

#[test]
fn err_more_than_the_largest_object() {
    let limits = PartLimits::default();
    let largest = limits.parts_max * limits.part_bytes_max;
    assert!(plan_parts(&SplicePlan::identity(largest), &limits).is_ok());
    let error = plan_parts(&SplicePlan::identity(largest + 10_000), &limits).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "revision of {} bytes needs more than 10000 parts",
            largest + 10_000
        )
    );
}
