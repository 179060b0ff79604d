-- one row per cohort, as last loaded
select project_id, cohort, size, loaded_at from cohorts where project_id = $project_id order by cohort
